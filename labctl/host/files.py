"""Atomic file writes that survive a power cut, with the right mode and owner."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from labctl.host.caller import give_to_caller, make_folder
from labctl.host.failpoints import failpoint
from labctl.host.paths import PRIVATE

PRIVATE_FILE = 0o600
SHARED_FILE = 0o666
"""The mode of a file that others may read; the umask applies."""
_RENAME_REFUSED = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS}
"""Errors of a rename onto a bind mount, or with a folder or owner that this process may not use: the file itself may
still be writable."""


def write(path: Path, content: bytes, *, mode: int = PRIVATE_FILE, point: str = "write") -> None:
    """Write a file of labctl, and create missing folders above it.

    Replace an existing file. Give the new one to the user who called sudo. `point` is the failpoint before the rename.
    """
    make_folder(path.parent, PRIVATE)
    try:
        with _temporary_file(path, content, mode) as temporary:
            failpoint(point)
            temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failed write does not name the file


def write_changed(folder: Path, contents: Mapping[str, str]) -> bool:
    """Write the files below the folder whose content differs, as `write` does; return whether any did."""
    changed = [(path, text.encode()) for name, text in contents.items() if _differs(path := folder / name, text)]
    for path, content in changed:
        write(path, content)
    return bool(changed)


def create(path: Path, content: bytes, *, mode: int = SHARED_FILE, point: str = "write") -> None:
    """Write a new file. Raises FileExistsError if the name is taken, even by a dangling link."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with _temporary_file(path, content, mode) as temporary:
        failpoint(point)
        path.open("xb").close()  # raises if the name was taken meanwhile
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink()
            raise


def rewrite(path: Path, old: bytes, new: bytes, point: str) -> None:
    """Write `new` to a file of the user or the system that has the content `old`; keep mode, owner and attributes.

    If the file cannot be replaced, write it in place. `point` is the failpoint before the rename.
    """
    try:
        with _temporary_file(path, new, PRIVATE_FILE, like=path) as temporary:
            failpoint(point)
            temporary.replace(path)
    except OSError as error:
        if error.errno not in _RENAME_REFUSED:
            raise
        _overwrite(path, old, new)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of killed runs. The caller must hold the file's lock."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(_temporary_prefix(path)):
            entry.unlink()


def size_on_disk(paths: Iterable[Path]) -> int:
    """Return the bytes that the files in these folders use on the disk; hard links of a file count once."""
    blocks: dict[tuple[int, int], int] = {}
    for top in paths:
        for folder, _, names in os.walk(top):
            for name in names:
                with suppress(FileNotFoundError):  # another process has removed it since it was listed
                    status = Path(folder, name).lstat()
                    blocks[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(blocks.values())


def sync_folder(path: Path) -> None:
    """Sync the folder itself to the disk, so that new names in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_bytes() != text.encode()


@contextmanager
def _temporary_file(path: Path, content: bytes, mode: int, like: Path | None = None) -> Iterator[Path]:
    """Write and sync a temporary file in the same folder, for the caller to rename.

    Copy owner, mode and extended attributes from `like`. Without it, set the mode, and the owner as `give_to_caller` does.
    """
    temporary = path.with_name(f"{_temporary_prefix(path)}{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            if like:
                owner = like.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
                shutil.copystat(like, temporary)
            else:
                give_to_caller(temporary)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _temporary_prefix(path: Path) -> str:
    return f".{path.name}.labctl-"


def _overwrite(path: Path, old: bytes, new: bytes) -> None:
    """Write `new` into the file itself; if that fails, write `old` again.

    Pad a shorter content to the length of the old one, write it in one call, then cut it. A process that is killed
    leaves the old content, the new one, or the new one with empty lines at the end. A kill inside the write call can
    leave a mixture: the caller's copy has the old content.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        _write_all(descriptor, new.ljust(len(old), b"\n"))
        _truncate(descriptor, len(new))
    except BaseException:
        _write_all(descriptor, old)
        _truncate(descriptor, len(old))
        raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)


def _truncate(descriptor: int, length: int) -> None:
    os.ftruncate(descriptor, length)
    os.fsync(descriptor)
