"""Blobs by digest in a folder that downloads, pulls, pushes and imports share."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from labctl.host.caller import give_to_caller, make_folder
from labctl.host.files import sync_folder
from labctl.host.paths import PRIVATE
from labctl.model.errors import MissingError
from labctl.transfer.documents import DIGEST

LINK_REFUSED = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
"""Errors of a hard link to another file system, on one without hard links, or to a protected file of another user."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The identity of content: its digest, `sha256:…`, and its size in bytes."""

    digest: str
    size: int


def digest_of(path: Path) -> str:
    """Return the digest of a file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class BlobStore:
    """Verified blobs, and the partial files of blobs that are being fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, digest: str) -> bool:
        """Return whether the store has the blob, which was verified when it was added."""
        return self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Return the blob's path, whether or not it exists. Raises ValueError if the digest is not a SHA-256."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 digest: {digest!r}")
        return self.folder / "sha256" / digest.removeprefix("sha256:")

    def verified(self, digest: str) -> Path:
        """Verify a blob; return its path. If it is damaged, remove it and raise MissingError `blob-damaged`."""
        path = self.path(digest)
        if (actual := digest_of(path)) != digest:
            raise self.without_damaged(digest, actual)
        return path

    def without_damaged(self, digest: str, actual: str) -> MissingError:
        """Remove a blob whose content no longer has its digest; return the error for it."""
        path = self.path(digest)
        path.unlink()
        return MissingError(
            f"the cached file {path} is damaged: its digest is now {actual}",
            id="blob-damaged",
            hint="It was removed. Run the same command again to fetch it, and check the disk.",
        )

    def partial(self, digest: str) -> Path:
        """Return the path of a blob's partial file; create its folder."""
        path = self.folder / "partial" / self.path(digest).name
        make_folder(path.parent, PRIVATE)
        return path

    def adopt(self, path: Path, digest: str) -> None:
        """Move a file that the caller has verified into the store, from the same file system."""
        target = self.path(digest)
        make_folder(target.parent, PRIVATE)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        give_to_caller(path)
        path.replace(target)
        sync_folder(target.parent)

    def place(self, digest: str, target: Path) -> None:
        """Replace `target` by a hard link to a blob where possible, else by a copy of it."""
        source = self.path(digest)
        make_folder(target.parent, PRIVATE)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            shutil.copyfile(source, target)
            give_to_caller(target)
