"""Kill the containers of an Engine that no longer runs: find their processes and control groups without it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labctl.host.wait import Pending, until
from labctl.model.errors import NotReadyError

PROCESSES = Path("/proc")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
SHIM = b"containerd-shim"
ID = re.compile(r"[0-9a-f]{64}")
END_SECONDS = 20.0
"""How long the kernel may take to end a container whose first process was killed."""


@dataclass(frozen=True, slots=True)
class Shim:
    """The containerd-shim process of one container, which outlives its containerd."""

    pid: int
    container: str


def kill_containers(containerd: Path, known: Iterable[str] = ()) -> bool:
    """Kill every container of the containerd that serves, or served, at this socket; return whether there was one.

    `known` are ids of containers that it may have created: one whose shim was killed still runs in its control group.
    """
    shims = list(_shims(containerd))
    for shim in shims:
        for pid in (*_children(shim.pid), shim.pid):  # the kernel kills the others with a container's first process
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until(
        lambda: Pending(f"shims {left}") if (left := [shim.pid for shim in _shims(containerd)]) else None,
        what=f"the end of the containers of {containerd}",
        timeout=END_SECONDS,
    )
    groups = _groups({*known, *(shim.container for shim in shims)})
    was_there = bool(shims) or any(_processes(group) for group in groups)
    with suppress(NotReadyError):  # an empty group that stays is harmless
        until(
            partial(_empty, groups), what="the removal of the control groups of ended containers", timeout=END_SECONDS
        )
    return was_there


def containers_of(engine: Path) -> list[str]:
    """Return the ids of all containers of the Engine whose data is in this folder, running or not."""
    return [path.name for path in (engine / "containers").glob("*") if ID.fullmatch(path.name)]


def _shims(containerd: Path) -> Iterator[Shim]:
    for path in PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has exited since it was listed
            words = path.read_bytes().split(b"\0")
            if SHIM in words[0] and os.fsencode(containerd) in words and b"-id" in words:
                yield Shim(int(path.parent.name), words[words.index(b"-id") + 1].decode())


def _children(parent: int) -> Iterator[int]:
    for path in PROCESSES.glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The fields after the program's name, which may contain any character: state, parent, …
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == parent:
                yield int(path.parent.name)


def _groups(containers: Collection[str]) -> list[Path]:
    """Return the control groups of these containers in every hierarchy; no runtime removes them any more."""
    names = {name for container in containers for name in (container, f"docker-{container}.scope")}
    return [
        Path(folder, name)
        for folder, there, _ in (os.walk(CONTROL_GROUPS) if names else ())
        for name in names.intersection(there)
    ]


def _empty(groups: Iterable[Path]) -> Pending | None:
    """Kill what still runs in the control groups, and remove them; return None once they are gone."""
    for pid in {pid for group in groups for pid in _processes(group)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    left = [group for group in groups if not _remove(group)]
    return Pending(f"in use: {left}") if left else None


def _processes(group: Path) -> set[int]:
    """Return the processes in a control group and in those below it."""
    process: set[int] = set()
    for folder, _, _ in os.walk(group):
        with suppress(OSError):  # it is gone, or of a type that lists no processes
            process.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
    return process - {0}  # 0: a process of another PID namespace


def _remove(group: Path) -> bool:
    """Remove a control group and those in it; return False while one of its processes is still exiting."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
