"""Labs in which the app's name does not resolve, or resolves to another address."""

from __future__ import annotations

import os
import signal
import sys
from typing import Literal

from e2e.reallab import RealLab, eventually

from . import Act, BrokenLab
from .breaking import ADDRESS, edit_hosts, hosts_file, sequence

HOST = "my-app.local"
SILENT = "192.168.56.77"
"""An unused address of the lab's network."""
listeners: dict[str, int] = {}
"""The pid of the other web server, by the lab in whose network it listens."""


def _add_lines(*lines: str, first: bool = False) -> Act:
    """Write lines at the beginning of the hosts file, or at its end."""
    added = "".join(f"{line}\n" for line in lines).encode()

    def add(lab: RealLab) -> None:
        content = hosts_file(lab).read_bytes()
        hosts_file(lab).write_bytes(added + content if first else content + added)

    return add


def _remove_lines(*lines: str) -> Act:
    """Delete these lines, even if a command has changed them or turned them into comments."""
    begins = tuple((SILENT if line.startswith(SILENT) else line).encode() for line in lines)

    def remove(lab: RealLab) -> None:
        content = hosts_file(lab).read_bytes().splitlines(keepends=True)
        remaining = [
            line for line in content if not (line.startswith(begins) or line.removeprefix(b"# ").startswith(begins))
        ]
        hosts_file(lab).write_bytes(b"".join(remaining))

    return remove


def _start_server(lab: RealLab) -> None:
    """Start another web server at ::1 in the lab's network."""
    line = f"{sys.executable} -m http.server 80 --bind ::1 >/dev/null 2>&1 & echo $!"
    listeners[lab.name] = int(lab.inside("sh", "-c", line))
    eventually(lambda: lab.page("http://[::1]/")[0], lambda status: status > 0)


def _stop_server(lab: RealLab) -> None:
    if process := listeners.pop(lab.name, None):
        os.kill(process, signal.SIGTERM)


def _check_fix_is_shown(lab: RealLab, _hop: object) -> None:
    assert "fix: " in lab.labctl("trace", code=8).out


def _resolve_by_name_server_only(lab: RealLab) -> None:
    hosts_file(lab).with_name("nsswitch.conf").write_text("hosts: dns\n")


def _shadow(
    name: str,
    *lines: str,
    cause: str = "hosts-entry-doubled",
    state: Literal["broken", "warning"] = "warning",
    first: bool = False,
    fixed_by: Literal["commands", "undo"] = "commands",
) -> BrokenLab:
    """Return a lab with foreign lines in the hosts file, which `up` does not change."""
    up: Literal["reports", "fine"] = "reports" if state == "broken" else "fine"
    breaks, undo = _add_lines(*lines, first=first), _remove_lines(*lines)
    return BrokenLab(name, breaks, "name", cause, up=up, state=state, fixed_by=fixed_by, undo=undo)


IPV6 = f"::1 {HOST}"
ROWS = (
    BrokenLab(
        "no hosts line",
        lambda lab: lab.labctl("hosts", "remove"),
        "name",
        "hosts-entry-missing",
        also=_check_fix_is_shown,
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
    _shadow("an IPv6 address where nothing listens", IPV6),
    BrokenLab(
        "an IPv6 address where another server listens",
        sequence(_start_server, _add_lines(IPV6)),
        "name",
        "hosts-entry-shadowed",
        up="reports",
        undo=sequence(_stop_server, _remove_lines(IPV6)),
    ),
    _shadow(
        "the block of another lab before the lab's own",
        "# BEGIN labctl another",
        f"{SILENT} {HOST}",
        "# END labctl another",
        cause="hosts-entry-of-another-lab",
        state="broken",
        first=True,
        fixed_by="undo",
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
        "a hosts file that only its owner can read",
        lambda lab: hosts_file(lab).chmod(0o600),
        "name",
        "hosts-file-unreadable",
        up="fine",
        state="warning",
        undo=lambda lab: hosts_file(lab).chmod(0o644),
    ),
)
