"""The traces of an isolated lab on its machine, recorded while it is up to check later that they are gone."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .reallab import RealLab, eventually, run

CONTROL_GROUPS = Path("/sys/fs/cgroup")
destroyed: set[str] = set()
"""The labs that this process has destroyed, or tried to."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, which its pid and start time identify."""

    pid: int
    parent: int
    started: str
    command: str


@dataclass(frozen=True, slots=True)
class Footprint:
    """Everything outside a lab's namespace that belongs to the lab alone."""

    lab: RealLab
    uplink: str
    """The uplink's outer end."""
    processes: frozenset[Process]

    def sweep(self) -> None:
        """Remove the processes, firewall rules and namespace that a failed `destroy` has left."""
        for process in self._alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for rule in self._rules():
            table, _, *words = shlex.split(rule)
            run("iptables", "--wait", "-t", table, "-D", *words)
        if Path("/run/netns", self.namespace).exists():
            run("ip", "netns", "delete", self.namespace)

    def remaining(self) -> list[str]:
        """Return a description of everything that still exists."""
        links = {link["ifname"] for link in json.loads(run("ip", "-j", "link", "show"))}
        state = [path for path in self.lab.folder.glob("*") if path.name != "log"] if self.lab.folder.exists() else []
        named = [
            Path("/run/netns", self.namespace),
            Path("/etc/netns", self.namespace),
            Path("/run/labctl", self.lab.name),
        ]
        return [
            *(f"process {process.pid}: {process.command}" for process in self._alive()),
            *(f"link {name}" for name in links & {self.uplink}),
            *(f"rule {rule}" for rule in self._rules()),
            *(f"mount {path}" for path in self.mounts()),
            *(str(path) for path in [*named, *state] if path.exists()),
        ]

    def mounts(self) -> list[str]:
        """Return the mount points of the lab's file systems, innermost first."""
        ours = (f"{self.lab.folder}/", f"/run/labctl/{self.lab.name}/", f"/run/netns/{self.namespace}")
        return [path for path in reversed(_mounts()) if path.startswith(ours)]

    def remove_control_groups(self) -> None:
        """Remove the control groups of the lab's nodes and kill their processes, as a reboot would."""
        nodes = [path.read_text() for path in self.lab.folder.glob(".vagrant/machines/*/docker/id")]
        # os.walk ignores other labs' groups that disappear while they are listed.
        groups = [
            folder for folder, _, _ in os.walk(CONTROL_GROUPS) if any(node in Path(folder).name for node in nodes)
        ]
        for group in groups:
            eventually(partial(remove_group, Path(group)), bool)

    @property
    def namespace(self) -> str:
        return f"labctl-{self.lab.name}"

    def _alive(self) -> list[Process]:
        alive = {(process.pid, process.started) for process in processes()}
        return [process for process in self.processes if (process.pid, process.started) in alive]

    def _rules(self) -> list[str]:
        """Return the lab's firewall rules, each with its table."""
        rules = [
            f"{table} {rule}"
            for table in ("nat", "filter")
            for rule in run("iptables", "--wait", "-t", table, "-S").splitlines()
        ]
        return [rule for rule in rules if f"labctl:{self.lab.name}" in shlex.split(rule)]


def remove_group(group: Path) -> bool:
    """Kill the processes of a control group and remove it; return whether it is gone."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):  # it has ended, or is ending
            for pid in (Path(folder) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            Path(folder).rmdir()
    return not group.exists()


def record(lab: RealLab) -> Footprint:
    """Return the footprint of an isolated lab that has a namespace, even if it is not complete."""
    namespace = f"labctl-{lab.name}"
    inner = json.loads(run("ip", "-n", namespace, "-j", "link", "show", "uplink", code=None) or "[]")
    peers = {link["link_index"] for link in inner}
    outer = next(
        (link["ifname"] for link in json.loads(run("ip", "-j", "link", "show")) if link["ifindex"] in peers), ""
    )
    roots = {int(pid) for pid in run("ip", "netns", "pids", namespace).split()}
    return Footprint(lab, outer, _with_descendants(roots, f"/run/labctl/{lab.name}/"))


@contextmanager
def destroyed_afterwards(lab: RealLab) -> Iterator[RealLab]:
    """Yield the lab; afterwards, destroy whatever exists of it and check that nothing is left."""
    try:
        yield lab
    finally:
        destroyed.add(lab.name)
        if lab.folder.exists():
            recorded = record(lab) if Path("/run/netns", f"labctl-{lab.name}").exists() else None
            try:
                lab.labctl("destroy", "--yes", "--purge", seconds=120)
                assert recorded is None or recorded.remaining() == []
            finally:
                if recorded:
                    recorded.sweep()


def processes() -> Iterator[Process]:
    """Yield every process of the machine except zombies."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        if words[0] != "Z":
            yield Process(int(folder.name), int(words[1]), words[19], command)


def other_labs_run(*ours: str) -> bool:
    """Return whether an isolated lab other than these is up on this machine."""
    own = {f"labctl-{name}" for name in ours}
    return any(line.split()[0] not in own for line in _namespaces() if line.startswith("labctl-"))


def _with_descendants(roots: set[int], mark: str) -> frozenset[Process]:
    """Return the root processes, those with the mark in their command, and all descendants of both."""
    everything = list(processes())
    selected = {process for process in everything if process.pid in roots or mark in process.command}
    while True:
        pids = {process.pid for process in selected}
        children = {process for process in everything if process.parent in pids} - selected
        if not children:
            return frozenset(selected)
        selected |= children


def _namespaces() -> list[str]:
    return run("ip", "netns", "list").splitlines()


def _mounts() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
