"""Writing to a file that is somebody else's: whole or not at all, and still theirs afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from labctl.host.failpoints import failpoint

_RENAME_REFUSED = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS}
"""A bind mount, a folder we may not write in, an owner we may not give: the file itself may still be writable."""


def rewrite(path: Path, old: bytes, new: bytes, fault: str) -> None:
    """Write `new` into a file that holds `old`; mode, owner and extended attributes stay.

    Where the file cannot be replaced, it is written in place. `fault` names the point just before the file is replaced.
    """
    try:
        _replace(path, new, fault)
    except OSError as error:
        if error.errno not in _RENAME_REFUSED:
            raise
        _overwrite(path, old, new)


def _replace(path: Path, content: bytes, fault: str) -> None:
    """Readers see the old file or the new one, never a part; mode, owner and extended attributes stay."""
    descriptor, name = tempfile.mkstemp(prefix=_temporary_prefix(path), dir=path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            owner = path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
            shutil.copystat(path, temporary)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        failpoint(fault)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left beside the file. The caller's lock keeps all others out."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(_temporary_prefix(path)):
            entry.unlink()


def _temporary_prefix(path: Path) -> str:
    return f".{path.name}.labctl-"


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _overwrite(path: Path, old: bytes, new: bytes) -> None:
    """The file itself holds `new`; if that fails on the way, `old` again.

    If this process is killed on the way, the file is old, or new, or new with empty lines behind it: what is shorter
    is written as long as the old file, in one call, and cut then. A kill in the middle of that call can leave the
    beginning of the new file before the rest of the old one; the copy that was kept is the old file then.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        _fill(descriptor, new.ljust(len(old), b"\n"))
        _cut(descriptor, len(new))
    except BaseException:
        _fill(descriptor, old)
        _cut(descriptor, len(old))
        raise
    finally:
        os.close(descriptor)


def _fill(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)


def _cut(descriptor: int, length: int) -> None:
    os.ftruncate(descriptor, length)
    os.fsync(descriptor)
