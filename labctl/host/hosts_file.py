"""Edit the lab's marked block in the hosts file.

Bytes outside the block are never decoded, and stay as they are.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
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
from labctl.model.errors import HostsError, NotReadyError

LOCK_SECONDS = 10.0
NOT_CHANGED = "hosts-cannot-change"
"""The id of the error if the file can be read and not written."""
FAULT = "hosts.rename"
OWN_FILES = Path("/etc/netns")
"""Where the hosts files of isolated labs are."""
ROOT_PROGRAM = Path(__file__).resolve().with_name("hosts_as_root.py")

_LINE = re.compile(r"[0-9A-Fa-f.:]+ [A-Za-z0-9.-]+")
_MARKER = re.compile(rb"^# (BEGIN|END) labctl ([a-z0-9][-a-z0-9]*)(?=\r?(?:\n|\Z))", re.MULTILINE)


class DamagedMarkerError(ValueError):
    """labctl's BEGIN and END lines do not pair up, so the owner of the lines is unknown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line with hostnames, in lower case for comparison, and the lab whose block it is in, if any."""

    number: int
    address: str
    names: tuple[str, ...]
    text: str
    block: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """The lines for a lab's block, each an address and a hostname. Without lines the block is removed."""

    lab: str
    lines: tuple[str, ...] = ()

    def apply(self, content: bytes) -> bytes:
        """Return the content after the edit. Raises as `with_block` and `without_block` do."""
        return with_block(content, self.lab, self.lines) if self.lines else without_block(content, self.lab)

    @property
    def manual_instructions(self) -> str:
        """Return what a person can do instead."""
        if self.lines:
            return f"add by hand: {'; '.join(self.lines)}"
        return f"delete the block of labctl {self.lab} by hand"


def sync(path: Path, lab: str, addresses: Mapping[str, IPv4Address], *, backup: Path) -> bool:
    """Write the lab's block with one line for each hostname, in this order; return whether the file changed.

    Without hostnames, remove the block. Copy the file to `backup` before a change. If this user may not write the file,
    write it through sudo, unless sudo would ask. Raises HostsError, with the file unchanged, if the file is missing,
    cannot be read or written, or has a damaged marker.
    """
    return _change(path, backup, Edit(lab, lines_for(addresses)))


def remove(path: Path, lab: str, *, backup: Path) -> bool:
    """Remove the lab's block, and the line end that `sync` may have added; return whether the file changed.

    A missing file has no block. Copies, writes and raises as `sync` does.
    """
    return os.path.lexists(path) and _change(path, backup, Edit(lab))


def lines_for(addresses: Mapping[str, IPv4Address]) -> tuple[str, ...]:
    """Return a line for each hostname."""
    return tuple(f"{address} {hostname}" for hostname, address in addresses.items())


def show(path: Path, lab: str) -> tuple[str, ...] | None:
    """Return the lines of the lab's block; None without a block or a file. Raises as `sync` does."""
    if not os.path.lexists(path):
        return None
    with _translate_errors(path, "read", "look at it by hand"), _resolved(path).open("rb") as file:
        return block(file.read(), lab)


def read(path: Path) -> bytes:
    """Return the content of a hosts file. Raises as `sync` does."""
    with _translate_errors(path, "read", "look at it by hand"):
        return _resolved(path).read_bytes()


def is_world_readable(path: Path) -> bool:
    """Return whether every user may read a hosts file; True if there is none, since another source resolves names then."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return True


def entries(content: bytes) -> Iterator[Entry]:
    """Yield every line of a hosts file that has hostnames, inside and outside of blocks, even if a marker is damaged."""
    block = None
    for number, line in enumerate(content.split(b"\n"), 1):
        if marker := _MARKER.match(line):
            block = marker[2].decode() if marker[1] == b"BEGIN" else None
        # As bytes, because the C library knows only ASCII blanks and letters.
        words = line.partition(b"#")[0].lower().split()
        if len(words) > 1:
            address, *names = (word.decode(errors="replace") for word in words)
            yield Entry(number, address, tuple(names), line.decode(errors="replace").strip(), block)


def apply_edit(path: Path, edit: Edit, *, dry_run: bool = False) -> bool:
    """Make the edit while the caller holds the file's lock; return whether the file changed. Raises as `sync` does.

    A dry run changes nothing, but raises if the file cannot be written.
    """
    with _translate_errors(path, "change", edit.manual_instructions):
        real = _resolved(path)
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
    """Return the command that makes the edit as root while this process holds the lock.

    Python ignores the user's environment (-I) and writes no bytecode as root (-B).
    """
    words = [word for line in edit.lines for word in line.split()]
    return [sys.executable, "-I", "-B", str(ROOT_PROGRAM), act, os.path.realpath(path), edit.lab, *words]


def with_block(content: bytes, lab: str, lines: Sequence[str]) -> bytes:
    """Return the content with these lines as the lab's block, in its place or at the end.

    The block has the line ends of the file. If the last line has no line end, the block ends without one, so that
    `without_block` can restore the content exactly. Raises DamagedMarkerError, and HostsError for a line that is not an
    address and a hostname.
    """
    if wrong := [line for line in lines if not _LINE.fullmatch(line)]:
        raise HostsError(f"not an address and a hostname: {wrong[0]!r}", id="hosts-line", hint="Correct the hostname.")
    if span := _blocks(content).get(lab):
        return content[: span.start] + _block(lab, lines, _line_end(content[span])) + content[span.stop :]
    end = _line_end(content)
    if content and not content.endswith(b"\n"):
        return content + end + _block(lab, lines, end)
    return content + _block(lab, lines, end) + end


def without_block(content: bytes, lab: str) -> bytes:
    """Return the content as it was before `with_block`. Raises DamagedMarkerError."""
    if not (span := _blocks(content).get(lab)):
        return content
    before, after = content[: span.start], content[span.stop :]
    if after:
        return before + after.partition(b"\n")[2]
    left = before.removesuffix(_line_end(content[span]))
    # Removing the line end could turn the last line into a marker without a partner.
    return left if len(_MARKER.findall(left)) == len(_MARKER.findall(before)) else before


def block(content: bytes, lab: str) -> tuple[str, ...] | None:
    """Return the lines of the lab's block, without its markers; None without a block. Raises DamagedMarkerError."""
    if not (span := _blocks(content).get(lab)):
        return None
    # Split as the C library does: splitlines() knows more line ends.
    return tuple(line.removesuffix(b"\r").decode(errors="replace") for line in content[span].split(b"\n")[1:-1])


def _blocks(content: bytes) -> dict[str, slice]:
    """Return each lab's block, from its BEGIN to its END without the line end after it."""
    blocks: dict[str, slice] = {}
    begin: re.Match[bytes] | None = None
    for marker in _MARKER.finditer(content):
        lab = marker[2].decode()
        if marker[1] == b"BEGIN":
            if begin or lab in blocks:
                raise _damaged_marker_error(
                    content, marker, "a second block of this lab" if lab in blocks else "a block inside a block"
                )
            begin = marker
        else:
            if not begin or begin[2] != marker[2]:
                raise _damaged_marker_error(content, marker, "no block begins before it")
            blocks[lab] = slice(begin.start(), marker.end())
            begin = None
    if begin:
        raise _damaged_marker_error(content, begin, "its block has no end")
    return blocks


def _damaged_marker_error(content: bytes, marker: re.Match[bytes], why: str) -> DamagedMarkerError:
    line = content.count(b"\n", 0, marker.start()) + 1
    return DamagedMarkerError(f"line {line}: damaged marker `{marker[0].decode()}`: {why}")


def _block(lab: str, lines: Sequence[str], end: bytes) -> bytes:
    return end.join(line.encode() for line in (f"# BEGIN labctl {lab}", *lines, f"# END labctl {lab}"))


def _line_end(content: bytes) -> bytes:
    """Return the last line end of the content. If the content ends with half of one, return the other half."""
    before, newline, last = content.rpartition(b"\n")
    return b"\r\n" if newline and before.endswith(b"\r") and not last.endswith(b"\r") else b"\n"


def _change(path: Path, backup: Path, edit: Edit) -> bool:
    with _translate_errors(path, "read", edit.manual_instructions):
        real = _resolved(path)
        with _locked(real) as file:
            if os.access(real.parent, os.W_OK):
                remove_leftovers(real)
            content = file.read()
            changed = edit.apply(content)
            if changed == content:
                return False
            with _translate_errors(path, "change", edit.manual_instructions):
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
def _translate_errors(path: Path, act: str, by_hand: str) -> Iterator[None]:
    try:
        yield
    except DamagedMarkerError as error:
        file = _outside_path(path)
        raise HostsError(
            f"{file}, {error}",
            id="hosts-damaged",
            hint=f"Delete the rest of that block, from BEGIN to END, from {file} in an editor, then try again.",
        ) from error
    except OSError as error:
        file = _outside_path(path)
        raise HostsError(
            f"cannot {act} the hosts file {file}: {error}",
            id=f"hosts-cannot-{act}",
            hint=f"Check that you may {act} {file} (sudo, `lsattr`), or {by_hand}",
        ) from error


def _outside_path(path: Path) -> Path:
    """Return the path as it is outside of an isolated lab's namespace, where the user types commands."""
    outside = (file for file in OWN_FILES.glob("labctl-*/hosts") if path.exists() and file.samefile(path))
    return next(outside, path)


def _resolved(path: Path) -> Path:
    """Return the regular file behind any symbolic links, because a rename would replace the link."""
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return real


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open the file for reading, with an exclusive lock that leaves no file behind."""
    try:
        file = until(lambda: try_lock(path), what=f"the lock of {path}", timeout=LOCK_SECONDS, interval=0.02)
    except NotReadyError as error:
        name = _outside_path(path)
        raise HostsError(
            f"cannot change the hosts file {name}: another process has held its lock for {LOCK_SECONDS:.0f} s",
            id=NOT_CHANGED,
            hint=f"Wait for that process, or end it (`fuser -v {name}` shows it); then run the same command again.",
        ) from error
    with file:
        yield file
