"""The containers of an Engine that is gone: their processes and control groups, found without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.wait import Pending, until

PROCESSES = Path("/proc")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
SHIM = b"containerd-shim"
END_SECONDS = 20.0
"""How long the kernel may take to end a container whose first process was killed."""


@dataclass(frozen=True, slots=True)
class Shim:
    """The process that holds one container for a containerd, and outlives it."""

    pid: int
    container: str


def end(containerd: Path) -> bool:
    """End every container of the containerd that serves, or served, at this socket; True if there was one."""
    shims = list(_shims(containerd))
    for shim in shims:
        for pid in (*_children(shim.pid), shim.pid):  # the first process of a container takes all others along
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until(
        lambda: Pending(f"shims {left}") if (left := [shim.pid for shim in _shims(containerd)]) else None,
        what=f"the end of the containers of {containerd}",
        timeout=END_SECONDS,
    )
    for shim in shims:
        _remove_groups(shim.container)
    return bool(shims)


def _shims(containerd: Path) -> Iterator[Shim]:
    for path in PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
            words = path.read_bytes().split(b"\0")
            if SHIM in words[0] and os.fsencode(containerd) in words and b"-id" in words:
                yield Shim(int(path.parent.name), words[words.index(b"-id") + 1].decode())


def _children(parent: int) -> Iterator[int]:
    for path in PROCESSES.glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The fields after the program's name, which may hold anything: state, parent, …
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == parent:
                yield int(path.parent.name)


def _remove_groups(container: str) -> None:
    """Remove the control groups of a container, which no runtime removes any more; one that is in use stays."""
    names = {container, f"docker-{container}.scope"}
    found = [
        Path(folder, name) for folder, names_there, _ in os.walk(CONTROL_GROUPS) for name in names & {*names_there}
    ]
    for top in found:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
