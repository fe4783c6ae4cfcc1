"""A bundle in one file: an OCI image layout in a tar archive, which tools such as skopeo can read."""

from __future__ import annotations

import errno
import fcntl
import glob
import io
import os
import secrets
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from labctl.bundle.format import Bundle
from labctl.bundle.images import EPOCH
from labctl.bundle.layout import Artefact, choose, identity, incoming_bundle, not_a_bundle_error, with_entries
from labctl.bundle.oci.install import Source, install
from labctl.bundle.spans import Content, Span, digest_of, read_all, size_of
from labctl.host.caller import give_to_caller
from labctl.host.disk_space import FULL, no_room_error, require_room
from labctl.host.failpoints import failpoint
from labctl.host.files import sync_folder
from labctl.model.errors import LabError, MissingError, UsageError
from labctl.model.events import Progress
from labctl.transfer import tars
from labctl.transfer.documents import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    INDEX_FILE,
    LAYOUT,
    LAYOUT_FILE,
    Document,
    blob_path,
    parse_object,
)

_LARGEST_DOCUMENT = 4 << 20
_BLOCK = 512
_MIB = 1 << 20
_COPY_AGAIN = "Copy or export it again."
_ANOTHER_FILE = "give a file on another disk"


def export(artefact: Artefact, file: Path, report: Progress) -> int:
    """Write the bundle to a file atomically; return the file's size.

    Raises UsageError `file-not-usable`, and MissingError `disk-full` or `file-too-large` with the sizes.
    """
    if not file.parent.is_dir() or (file.exists() and not file.is_file()):
        raise _unusable_error(file, "it is not a regular file, or its folder does not exist")
    _remove_leftovers(file)
    entries = _entries(artefact)
    needed = sum(_BLOCK + -(-size_of(content) // _BLOCK) * _BLOCK for content in entries.values())
    require_room(file.parent, needed, f"the file {file.name}", _ANOTHER_FILE)
    temporary = file.with_name(f".{file.name}.labctl-{secrets.token_hex(4)}")
    try:
        with _disk_errors(file, needed), temporary.open("xb") as opened:
            give_to_caller(temporary)
            with suppress(OSError):  # without locks on the file system, another export to this file may remove it
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(opened, entries, report)
            report(f"flushing {file.name} to disk")
            opened.flush()
            os.fsync(opened.fileno())
        size = temporary.stat().st_size
        failpoint("export")
        temporary.replace(file)
        sync_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _remove_leftovers(file: Path) -> None:
    """Remove the temporary files of killed exports to this file; a running export holds a lock on its own."""
    for leftover in file.parent.glob(f".{glob.escape(file.name)}.labctl-*"):
        with suppress(OSError), leftover.open("rb") as opened:  # locked, or not ours to remove: keep it
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def import_bundle(file: Path, architecture: str, cache: Path, report: Progress) -> Bundle:
    """Install the bundle in a file into the cache, and return it.

    Raises UsageError `file-not-usable`; MissingError `bundle-artefact` if it has no bundle, `bundle-file-damaged`,
    and what `install` raises.
    """
    source = _Layout(file)
    name = str(file)
    manifest = incoming_bundle(source.manifest(architecture), name)
    known = identity(source.document(manifest.config), architecture, name)
    return install(manifest, known, Source(name, source.blob, partial(_damaged_error, name)), cache, report)


class _Layout:
    """An OCI image layout in a tar archive."""

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        self._members = _members(file)

    def manifest(self, architecture: str) -> Document:
        """Return the manifest of this architecture's bundle."""
        if LAYOUT_FILE not in self._members or INDEX_FILE not in self._members:
            raise not_a_bundle_error(self.name, f"it lacks {LAYOUT_FILE} or {INDEX_FILE}")
        index = Document(IMAGE_INDEX, self._content(INDEX_FILE))
        digest = choose(
            index, architecture, self.name, lambda described: parse_object(self.document(described["digest"]))
        )
        return Document(IMAGE_MANIFEST, self.document(digest))

    def document(self, digest: str) -> bytes:
        """Return a small blob, verified."""
        content = self._content(blob_path(digest))
        if (actual := digest_of(content)) != digest:
            raise _damaged_error(self.name, digest, actual)
        return content

    def blob(self, digest: str) -> Span:
        """Return the range of a blob in the archive."""
        span = self._members.get(blob_path(digest))
        if span is None:
            raise _truncated_error(self.name, f"{digest} is missing")
        return span

    def _content(self, path: str) -> bytes:
        if path not in self._members:
            raise _truncated_error(self.name, f"{path} is missing")
        if self._members[path].size > _LARGEST_DOCUMENT:
            raise not_a_bundle_error(self.name, f"{path} has {self._members[path].size} bytes")
        return read_all(self._members[path])


def _members(file: Path) -> Mapping[str, Span]:
    """Return the files in a tar archive, by path."""
    if not file.is_file():
        raise _unusable_error(file, "it is not a file")
    with tars.open_tar(file, lambda _why: not_a_bundle_error(str(file), "it is not a tar archive")) as tar:
        members = tars.members(tar, partial(_truncated_error, str(file)))
        return {
            each.name.removeprefix("./"): Span(file, each.offset_data, each.size) for each in members if each.isreg()
        }


def _entries(artefact: Artefact) -> Mapping[str, Content]:
    """Return the archive's content by path, in order: first the documents that describe the rest."""
    index = with_entries(None, artefact.architecture, artefact.descriptors)
    documents = {document.digest: document.content for document in artefact.documents}
    return {
        LAYOUT_FILE: LAYOUT,
        INDEX_FILE: index.content,
        **{blob_path(digest): content for digest, content in documents.items()},
        **{blob_path(digest): content for digest, content in artefact.blobs.items()},
    }


def _write(opened: BinaryIO, entries: Mapping[str, Content], report: Progress) -> None:
    total = sum(map(size_of, entries.values()))
    written = 0
    with tarfile.open(fileobj=opened, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in entries.items():
            member = tarfile.TarInfo(path)
            member.mode, member.mtime, member.size = 0o644, EPOCH, size_of(content)
            with _open(content) as file:
                tar.addfile(member, file)
            written += member.size
            report(f"{written // _MIB} of {total // _MIB} MiB written")


@contextmanager
def _open(content: Content) -> Iterator[BinaryIO]:
    """Open the content at its start. A file may continue after it, so the reader must know the size."""
    if isinstance(content, bytes):
        yield io.BytesIO(content)
        return
    with content.path.open("rb") as file:
        file.seek(content.offset)
        yield file


@contextmanager
def _disk_errors(file: Path, needed: int) -> Iterator[None]:
    """Translate the errors of a disk that is full, or that does not allow a file of this size."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise no_room_error(file.parent, needed, f"the file {file.name}", _ANOTHER_FILE) from error
        if error.errno == errno.EFBIG:
            raise MissingError(
                f"the file {file} needs {-(-needed // _MIB)} MiB, and its file system, or a limit, does not allow files of "
                "that size",
                id="file-too-large",
                hint="FAT32 allows 4 GiB: format the stick as exFAT or ext4. `ulimit -f` shows the limit of this shell.",
            ) from error
        raise


def _damaged_error(name: str, digest: str, actual: str) -> LabError:
    return MissingError(
        f"{name} is damaged: a blob has the digest {actual} instead of {digest}",
        id="bundle-file-damaged",
        hint=_COPY_AGAIN,
    )


def _truncated_error(name: str, why: str) -> LabError:
    return MissingError(f"{name} is damaged or truncated: {why}", id="bundle-file-damaged", hint=_COPY_AGAIN)


def _unusable_error(file: Path, why: str) -> UsageError:
    return UsageError(
        f"{file} cannot be used: {why}", id="file-not-usable", hint="Give a file, such as /media/stick/bundle.tar."
    )
