"""Labs in which the app's name does not resolve, or resolves to another address."""

from __future__ import annotations

import os
import signal
import sys
from typing import Literal

from e2e.reallab import RealLab, eventually

from . import Act, BrokenLab
from .breaking import ADDRESS, edit_hosts, hosts_file, in_turn

HOST = "my-app.local"
SILENT = "192.168.56.77"
"""An unused address of the lab's network."""
listeners: dict[str, int] = {}
"""The pid of the other web server, by the lab in whose network it listens."""


def _add(*lines: str, first: bool = False) -> Act:
    """Write lines at the beginning of the hosts file, or at its end."""
    added = "".join(f"{line}\n" for line in lines).encode()

    def add(lab: RealLab) -> None:
        content = hosts_file(lab).read_bytes()
        hosts_file(lab).write_bytes(added + content if first else content + added)

    return add


def _take_out(*lines: str) -> Act:
    """Delete these lines, even if a command has changed them or turned them into comments."""
    begins = tuple((SILENT if line.startswith(SILENT) else line).encode() for line in lines)

    def take_out(lab: RealLab) -> None:
        content = hosts_file(lab).read_bytes().splitlines(keepends=True)
        kept = [
            line for line in content if not (line.startswith(begins) or line.removeprefix(b"# ").startswith(begins))
        ]
        hosts_file(lab).write_bytes(b"".join(kept))

    return take_out


def _listen(lab: RealLab) -> None:
    """Start another web server at ::1 in the lab's network."""
    line = f"{sys.executable} -m http.server 80 --bind ::1 >/dev/null 2>&1 & echo $!"
    listeners[lab.name] = int(lab.inside("sh", "-c", line))
    eventually(lambda: lab.page("http://[::1]/")[0], lambda status: status > 0)


def _end(lab: RealLab) -> None:
    if process := listeners.pop(lab.name, None):
        os.kill(process, signal.SIGTERM)


def _is_shown_with_its_fix(lab: RealLab, _hop: object) -> None:
    assert "fix: " in lab.labctl("trace", code=8).out


def _resolve_by_name_server_only(lab: RealLab) -> None:
    hosts_file(lab).with_name("nsswitch.conf").write_text("hosts: dns\n")


def _shadow(
    name: str,
    *lines: str,
    cause: str = "hosts-entry-doubled",
    state: Literal["broken", "warning"] = "warning",
    first: bool = False,
    mended_by: Literal["commands", "undo"] = "commands",
) -> BrokenLab:
    """Return a lab with foreign lines in the hosts file, which `up` does not change."""
    up: Literal["names", "fine"] = "names" if state == "broken" else "fine"
    breaks, undo = _add(*lines, first=first), _take_out(*lines)
    return BrokenLab(name, breaks, "name", cause, up=up, state=state, mended_by=mended_by, undo=undo)


IPV6 = f"::1 {HOST}"
ROWS = (
    BrokenLab(
        "no hosts line",
        lambda lab: lab.labctl("hosts", "remove"),
        "name",
        "hosts-entry-missing",
        also=_is_shown_with_its_fix,
    ),
    BrokenLab(
        "a wrong address in the hosts line",
        edit_hosts(ADDRESS.encode(), b"192.168.56.99"),
        "name",
        "hosts-entry-outdated",
    ),
    _shadow("a shadowing line", f"{SILENT} {HOST}", cause="hosts-entry-shadowed", state="broken", first=True),
    _shadow(
        "a shadowing line with other names, tabs and CRLF",
        f"{SILENT} {HOST} My-App.Local\tother.local # {HOST}\r",
        cause="hosts-entry-shadowed",
        state="broken",
        first=True,
    ),
    _shadow("a second address after the right one", f"{SILENT} {HOST}"),
    _shadow("an address of IPv6 where nobody listens", IPV6),
    BrokenLab(
        "an address of IPv6 where another server listens",
        in_turn(_listen, _add(IPV6)),
        "name",
        "hosts-entry-shadowed",
        up="names",
        undo=in_turn(_end, _take_out(IPV6)),
    ),
    _shadow(
        "the block of another lab in front",
        "# BEGIN labctl another",
        f"{SILENT} {HOST}",
        "# END labctl another",
        cause="hosts-entry-of-another-lab",
        state="broken",
        first=True,
        mended_by="undo",
    ),
    BrokenLab(
        "a resolver that does not read the hosts file",
        _resolve_by_name_server_only,
        "name",
        "hosts-file-not-read",
        up="fine",
        undo=lambda lab: hosts_file(lab).with_name("nsswitch.conf").unlink(missing_ok=True),
    ),
    BrokenLab(
        "a hosts file that only its owner may read",
        lambda lab: hosts_file(lab).chmod(0o600),
        "name",
        "hosts-file-unreadable",
        up="fine",
        state="warning",
        undo=lambda lab: hosts_file(lab).chmod(0o644),
    ),
)
