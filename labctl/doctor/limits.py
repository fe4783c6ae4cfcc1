"""Kernel limits that the nodes share with everything else on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labctl.context import Context
from labctl.doctor import conditions, packages
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.host.machine import Machine
from labctl.model.lab import Node, Role

SETTINGS = Path("/proc/sys/fs/inotify")
SYSCTL_FILE = "/etc/sysctl.d/60-labctl.conf"
DEFAULT_VALUES = 40
"""Instances that root's own programs typically hold on a desktop machine: only root can count them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the user root, who runs the nodes' programs, with the measured use of each node."""

    name: str
    control_plane: int
    worker: int
    raised: int
    """The lowest value that the fix sets."""

    def need(self, nodes: Iterable[Node]) -> int:
        """Return how much these nodes use."""
        return sum(self.control_plane if node.role is Role.CONTROL_PLANE else self.worker for node in nodes)


INSTANCES = Limit("max_user_instances", control_plane=27, worker=13, raised=512)
WATCHES = Limit("max_user_watches", control_plane=250, worker=157, raised=524288)


def check_inotify(context: Context, machine: Machine) -> Finding:
    """Check that new nodes can watch their files within the kernel's inotify limits."""
    allowed = {limit: (machine.read(SETTINGS / limit.name) or "").strip() for limit in (INSTANCES, WATCHES)}
    if not all(value.isdecimal() for value in allowed.values()):
        return not_relevant("this system has no inotify; nodes use the kernel of Docker's virtual machine")
    if not (nodes := conditions.new_nodes(context)):
        return ok("the lab's nodes hold what they need")
    counted = machine.inotify_of_root()
    used = dict(zip(allowed, counted if counted is not None else (DEFAULT_VALUES, 0), strict=True))
    short = [limit for limit, value in allowed.items() if used[limit] + limit.need(nodes) > int(value)]
    known = "in use" if counted is not None else "assumed in use, as only root can count them"
    usage = "; ".join(
        f"fs.inotify.{limit.name} is {allowed[limit]}: {used[limit]} {known}, {limit.need(nodes)} for {len(nodes)} nodes"
        for limit in short or [INSTANCES]
    )
    if not short:
        return ok(usage)
    fix = _fix({limit: max(limit.raised, 2 * (used[limit] + limit.need(nodes))) for limit in short}, machine)
    return broken(usage, fix) if counted is not None else warning(usage, fix)


def _fix(values: dict[Limit, int], machine: Machine) -> str:
    sudo = packages.as_root(machine)
    settings = [f"fs.inotify.{limit.name}={value}" for limit, value in values.items()]
    return "\n".join(
        [
            "Raise it, now and after the next boot:",
            f"{sudo}sysctl -w {' '.join(settings)}",
            f"printf '%s\\n' {' '.join(settings)} | {sudo}tee {SYSCTL_FILE}",
        ]
    )
