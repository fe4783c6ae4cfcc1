"""The lab's marked block in the hosts file: a pure function over bytes, and a careful write.

Everything outside the block is somebody else's: it is never decoded, and stays byte for byte as it was.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import BinaryIO

from labctl.errors import HostsError
from labctl.faults import reached
from labctl.locks import try_lock
from labctl.paths import PRIVATE
from labctl.wait import until

LOCK_SECONDS = 10.0

_LINE = re.compile(r"[0-9A-Fa-f.:]+ [A-Za-z0-9.-]+")
_MARKER = re.compile(rb"^# (BEGIN|END) labctl ([a-z0-9][-a-z0-9]*)(?=\r?(?:\n|\Z))", re.MULTILINE)
_RENAME_REFUSED = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS}
"""A bind mount, a folder we may not write in, an owner we may not give: the file itself may still be writable."""


class DamagedMarkerError(ValueError):
    """The BEGIN and END lines of labctl do not pair up, so nobody can tell whose lines are whose."""


def sync(path: Path, lab: str, addresses: Mapping[str, IPv4Address], *, backup: Path) -> bool:
    """The file's block for this lab holds one line a hostname, in the order given; True if the file changed.

    Before a change the file as it was is kept at `backup`. Raises HostsError, with the file untouched, when
    it is missing, cannot be read or written, or a marker in it is damaged.
    """
    lines = tuple(f"{address} {hostname}" for hostname, address in addresses.items())
    by_hand = f"write by hand: {'; '.join(lines)}"
    return _change(path, backup, lambda content: with_block(content, lab, lines), by_hand)


def remove(path: Path, lab: str, *, backup: Path) -> bool:
    """The file has no block for this lab, nor the line end `sync` may have added; True if the file changed.

    A missing file has no block. Keeps a copy and refuses as `sync` does.
    """
    by_hand = f"delete by hand the block of labctl {lab}"
    return os.path.lexists(path) and _change(path, backup, lambda content: without_block(content, lab), by_hand)


def show(path: Path, lab: str) -> tuple[str, ...] | None:
    """The lines of the file's block for this lab; None without a block or a file. Refuses as `sync` does."""
    if not os.path.lexists(path):
        return None
    with _explained(path, "read", "look at it by hand"), _real(path).open("rb") as file:
        return block(file.read(), lab)


def with_block(content: bytes, lab: str, lines: Sequence[str]) -> bytes:
    """The content with these lines as the lab's block: where the block was, else at the end.

    The block takes the line ends of the file. If the last line has no line end, the block ends without one
    instead, and so `without_block` can give back exactly what was there. Raises DamagedMarkerError, and
    HostsError for a line that is not an address and a hostname.
    """
    if wrong := [line for line in lines if not _LINE.fullmatch(line)]:
        raise HostsError(f"not an address and a hostname: {wrong[0]!r}", id="hosts-line", hint="Correct the hostname.")
    if found := _blocks(content).get(lab):
        return content[: found.start] + _block(lab, lines, _line_end(content[found])) + content[found.stop :]
    end = _line_end(content)
    if content and not content.endswith(b"\n"):
        return content + end + _block(lab, lines, end)
    return content + _block(lab, lines, end) + end


def without_block(content: bytes, lab: str) -> bytes:
    """The content as it was before `with_block`. Raises DamagedMarkerError."""
    if not (found := _blocks(content).get(lab)):
        return content
    before, after = content[: found.start], content[found.stop :]
    if after:
        return before + after.partition(b"\n")[2]
    left = before.removesuffix(_line_end(content[found]))
    # At the end of a file, a line that is nearly a marker would become one that pairs with nothing.
    return left if len(_MARKER.findall(left)) == len(_MARKER.findall(before)) else before


def block(content: bytes, lab: str) -> tuple[str, ...] | None:
    """The lines of the lab's block, without its markers; None if there is none. Raises DamagedMarkerError."""
    if not (found := _blocks(content).get(lab)):
        return None
    # A line ends where the C library ends it; Python's splitlines knows many more ends.
    return tuple(line.removesuffix(b"\r").decode(errors="replace") for line in content[found].split(b"\n")[1:-1])


def _blocks(content: bytes) -> dict[str, slice]:
    """Where each lab's block is, from its BEGIN to its END without the line end after it."""
    blocks: dict[str, slice] = {}
    begin: re.Match[bytes] | None = None
    for marker in _MARKER.finditer(content):
        lab = marker[2].decode()
        if marker[1] == b"BEGIN":
            if begin or lab in blocks:
                raise _damaged(content, marker, "a second block" if lab in blocks else "a block within a block")
            begin = marker
        else:
            if not begin or begin[2] != marker[2]:
                raise _damaged(content, marker, "it ends no block")
            blocks[lab] = slice(begin.start(), marker.end())
            begin = None
    if begin:
        raise _damaged(content, begin, "its block never ends")
    return blocks


def _damaged(content: bytes, marker: re.Match[bytes], why: str) -> DamagedMarkerError:
    line = content.count(b"\n", 0, marker.start()) + 1
    return DamagedMarkerError(f"line {line}: damaged marker `{marker[0].decode()}`: {why}")


def _block(lab: str, lines: Sequence[str], end: bytes) -> bytes:
    return end.join(line.encode() for line in (f"# BEGIN labctl {lab}", *lines, f"# END labctl {lab}"))


def _line_end(content: bytes) -> bytes:
    """The line end that the content has last; of one that is cut off in its middle, the other half."""
    before, newline, last = content.rpartition(b"\n")
    return b"\r\n" if newline and before.endswith(b"\r") and not last.endswith(b"\r") else b"\n"


def _change(path: Path, backup: Path, edit: Callable[[bytes], bytes], by_hand: str) -> bool:
    with _explained(path, "read", by_hand):
        real = _real(path)
        with _locked(real) as file:
            _remove_leftovers(real)
            content = file.read()
            changed = edit(content)
            if changed == content:
                return False
            with _explained(path, "change", by_hand):
                backup.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
                backup.write_bytes(content)
                _write(real, content, changed)
    return True


@contextmanager
def _explained(path: Path, act: str, by_hand: str) -> Iterator[None]:
    try:
        yield
    except DamagedMarkerError as error:
        raise HostsError(
            f"{path}, {error}",
            id="hosts-damaged",
            hint=f"Open {path} in an editor and delete what is left of that block, from BEGIN to END, then try again.",
        ) from error
    except OSError as error:
        raise HostsError(
            f"cannot {act} the hosts file {path}: {error}",
            id=f"hosts-cannot-{act}",
            hint=f"Check that {path} is a file that you may {act} (sudo, `lsattr`), or {by_hand}",
        ) from error


def _real(path: Path) -> Path:
    """The regular file behind any symbolic links; a rename would put a file in the place of the link."""
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return real


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, opened for reading, with every other labctl kept out. The lock leaves nothing behind."""
    file = until(lambda: try_lock(path), what=f"the lock of {path}", timeout=LOCK_SECONDS, interval=0.02)
    with file:
        yield file


def _write(path: Path, old: bytes, new: bytes) -> None:
    try:
        _replace(path, new)
    except OSError as error:
        if error.errno not in _RENAME_REFUSED:
            raise
        _overwrite(path, old, new)


def _replace(path: Path, content: bytes) -> None:
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
        reached("hosts.rename")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _remove_leftovers(path: Path) -> None:
    """Nothing is beside the file that a killed run wrote: the lock keeps all that live out."""
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
