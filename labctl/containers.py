"""The containers of an Engine that is gone: their processes and control groups, found without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import NotReadyError
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
    groups = _groups(shims)
    with suppress(NotReadyError):  # an empty group that stays harms nobody
        until(
            lambda: Pending(f"in use: {left}") if (left := [group for group in groups if not _remove(group)]) else None,
            what="the control groups of ended containers",
            timeout=END_SECONDS,
        )
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


def _groups(shims: Iterable[Shim]) -> list[Path]:
    """Return the control groups of containers, which no runtime removes any more, in every hierarchy."""
    names = {name for shim in shims for name in (shim.container, f"docker-{shim.container}.scope")}
    return [
        Path(folder, name)
        for folder, there, _ in (os.walk(CONTROL_GROUPS) if names else ())
        for name in names.intersection(there)
    ]


def _remove(group: Path) -> bool:
    """Remove a control group and those in it; False while a process of it has not quite ended."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
