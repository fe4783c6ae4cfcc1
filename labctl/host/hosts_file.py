"""The lab's marked block in the hosts file: a pure function over bytes, and a careful write.

Everything outside the block is somebody else's: it is never decoded, and stays byte for byte as it was.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import BinaryIO, Literal

from labctl.host import sudo
from labctl.host.files import remove_leftovers, rewrite, write
from labctl.host.locks import try_lock
from labctl.host.wait import until
from labctl.model.errors import HostsError

LOCK_SECONDS = 10.0
NOT_CHANGED = "hosts-cannot-change"
"""The id of the error where the file can be read, and not written."""
FAULT = "hosts.rename"
OWN_FILES = Path("/etc/netns")
"""Where isolated labs have theirs."""
ROOT_PROGRAM = Path(__file__).resolve().with_name("hosts_as_root.py")

_LINE = re.compile(r"[0-9A-Fa-f.:]+ [A-Za-z0-9.-]+")
_MARKER = re.compile(rb"^# (BEGIN|END) labctl ([a-z0-9][-a-z0-9]*)(?=\r?(?:\n|\Z))", re.MULTILINE)


class DamagedMarkerError(ValueError):
    """The BEGIN and END lines of labctl do not pair up, so nobody can tell whose lines are whose."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that names hosts, in lower case as they are compared; and the lab in whose block it is, if any."""

    number: int
    address: str
    names: tuple[str, ...]
    text: str
    block: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """What a lab's block is to hold: these lines, each an address and a hostname. Without any there is no block."""

    lab: str
    lines: tuple[str, ...] = ()

    def apply(self, content: bytes) -> bytes:
        """Return the content after the edit. Raises as `with_block` and `without_block` do."""
        return with_block(content, self.lab, self.lines) if self.lines else without_block(content, self.lab)

    @property
    def by_hand(self) -> str:
        """What a person can do instead."""
        if self.lines:
            return f"write by hand: {'; '.join(self.lines)}"
        return f"delete by hand the block of labctl {self.lab}"


def sync(path: Path, lab: str, addresses: Mapping[str, IPv4Address], *, backup: Path) -> bool:
    """Make the file's block for this lab hold one line a hostname, in the order given; True if the file changed.

    Without hostnames there is no block. Before a change the file as it was is kept at `backup`. Where this user may not
    write the file, it is written through sudo, if sudo asks nothing. Raises HostsError, with the file untouched, when
    it is missing, cannot be read or written, or a marker in it is damaged.
    """
    return _change(path, backup, Edit(lab, lines_of(addresses)))


def remove(path: Path, lab: str, *, backup: Path) -> bool:
    """Remove this lab's block, and the line end `sync` may have added; True if the file changed.

    A missing file has no block. Keeps a copy, writes and refuses as `sync` does.
    """
    return os.path.lexists(path) and _change(path, backup, Edit(lab))


def lines_of(addresses: Mapping[str, IPv4Address]) -> tuple[str, ...]:
    """Return the lines that give each hostname its address."""
    return tuple(f"{address} {hostname}" for hostname, address in addresses.items())


def show(path: Path, lab: str) -> tuple[str, ...] | None:
    """The lines of the file's block for this lab; None without a block or a file. Refuses as `sync` does."""
    if not os.path.lexists(path):
        return None
    with _explained(path, "read", "look at it by hand"), _real(path).open("rb") as file:
        return block(file.read(), lab)


def read(path: Path) -> bytes:
    """Return the content of a hosts file. Refuses as `sync` does."""
    with _explained(path, "read", "look at it by hand"):
        return _real(path).read_bytes()


def entries(content: bytes) -> Iterator[Entry]:
    """Yield every line of a hosts file that names hosts, whoever wrote it, and whether or not the markers pair up."""
    block = None
    for number, line in enumerate(content.split(b"\n"), 1):
        if marker := _MARKER.match(line):
            block = marker[2].decode() if marker[1] == b"BEGIN" else None
        # Bytes: the C library knows ASCII's blanks and letters only.
        words = line.partition(b"#")[0].lower().split()
        if len(words) > 1:
            address, *names = (word.decode(errors="replace") for word in words)
            yield Entry(number, address, tuple(names), line.decode(errors="replace").strip(), block)


def carry_out(path: Path, edit: Edit, *, dry_run: bool = False) -> bool:
    """Make the edit, with the file's lock held by the caller; True if the file changed. Refuses as `sync` does.

    A dry run changes nothing, and refuses all the same where the file cannot be written.
    """
    with _explained(path, "change", edit.by_hand):
        real = _real(path)
        content = real.read_bytes()
        changed = edit.apply(content)
        os.close(os.open(real, os.O_WRONLY))
        if dry_run:
            return False
        remove_leftovers(real)
        if changed != content:
            rewrite(real, content, changed, FAULT)
    return changed != content


def root_command(act: Literal["check", "remove", "sync"], path: Path, edit: Edit) -> list[str]:
    """Return the command that does this as root, while the lock is held here.

    Python takes nothing from the user's environment, and leaves no bytecode of root's beside the user's.
    """
    words = [word for line in edit.lines for word in line.split()]
    return [sys.executable, "-I", "-B", str(ROOT_PROGRAM), act, os.path.realpath(path), edit.lab, *words]


def with_block(content: bytes, lab: str, lines: Sequence[str]) -> bytes:
    """The content with these lines as the lab's block: where the block was, else at the end.

    The block takes the line ends of the file. If the last line has no line end, the block ends without one
    instead, and so `without_block` can give back exactly what was there. Raises DamagedMarkerError, and
    HostsError for a line that is not an address and a hostname.
    """
    if wrong := [line for line in lines if not _LINE.fullmatch(line)]:
        raise HostsError(f"not an address and a hostname: {wrong[0]!r}", id="hosts-line", hint="Correct the hostname.")
    if blocks := _blocks(content).get(lab):
        return content[: blocks.start] + _block(lab, lines, _line_end(content[blocks])) + content[blocks.stop :]
    end = _line_end(content)
    if content and not content.endswith(b"\n"):
        return content + end + _block(lab, lines, end)
    return content + _block(lab, lines, end) + end


def without_block(content: bytes, lab: str) -> bytes:
    """The content as it was before `with_block`. Raises DamagedMarkerError."""
    if not (blocks := _blocks(content).get(lab)):
        return content
    before, after = content[: blocks.start], content[blocks.stop :]
    if after:
        return before + after.partition(b"\n")[2]
    left = before.removesuffix(_line_end(content[blocks]))
    # At the end of a file, a line that is nearly a marker would become one that pairs with nothing.
    return left if len(_MARKER.findall(left)) == len(_MARKER.findall(before)) else before


def block(content: bytes, lab: str) -> tuple[str, ...] | None:
    """The lines of the lab's block, without its markers; None if there is none. Raises DamagedMarkerError."""
    if not (blocks := _blocks(content).get(lab)):
        return None
    # A line ends where the C library ends it; Python's splitlines knows many more ends.
    return tuple(line.removesuffix(b"\r").decode(errors="replace") for line in content[blocks].split(b"\n")[1:-1])


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


def _change(path: Path, backup: Path, edit: Edit) -> bool:
    with _explained(path, "read", edit.by_hand):
        real = _real(path)
        with _locked(real) as file:
            if os.access(real.parent, os.W_OK):
                remove_leftovers(real)
            content = file.read()
            changed = edit.apply(content)
            if changed == content:
                return False
            with _explained(path, "change", edit.by_hand):
                write(backup, content)
                try:
                    rewrite(real, content, changed, FAULT)
                except PermissionError as error:
                    if sudo.is_root():
                        raise
                    _write_as_root(real, edit, error)
    return True


def _write_as_root(path: Path, edit: Edit, reason: PermissionError) -> None:
    finished = sudo.try_run(root_command("sync" if edit.lines else "remove", path, edit))
    if finished.code == HostsError.exit_code:
        refused = json.loads(finished.out)
        raise HostsError(refused["message"], id=refused["id"], hint=refused["hint"])
    if finished.code != 0:
        why = "; ".join((reason.strerror or "", *finished.last_lines[-1:]))
        raise PermissionError(reason.errno, why, reason.filename)


@contextmanager
def _explained(path: Path, act: str, by_hand: str) -> Iterator[None]:
    try:
        yield
    except DamagedMarkerError as error:
        file = _named(path)
        raise HostsError(
            f"{file}, {error}",
            id="hosts-damaged",
            hint=f"Open {file} in an editor and delete what is left of that block, from BEGIN to END, then try again.",
        ) from error
    except OSError as error:
        file = _named(path)
        raise HostsError(
            f"cannot {act} the hosts file {file}: {error}",
            id=f"hosts-cannot-{act}",
            hint=f"Check that {file} is a file that you may {act} (sudo, `lsattr`), or {by_hand}",
        ) from error


def _named(path: Path) -> Path:
    """The file as it is called where its user types: that of an isolated lab's network has another name outside."""
    outside = (file for file in OWN_FILES.glob("labctl-*/hosts") if path.exists() and file.samefile(path))
    return next(outside, path)


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
