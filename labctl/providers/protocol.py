"""The interface of providers: what a hypervisor, or a container engine, must do for a lab."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from labctl.bundle import Bundle
from labctl.host.machine import Machine
from labctl.host.process import LAST_LINES, Finished
from labctl.model.events import Progress
from labctl.model.lab import Node

ASSEMBLY = "labctl-node"
"""The unit in which a node assembles itself."""
CONSOLE = "console"
"""The key of the log of a node's own machine, beside the names of units."""
LAB_LABEL = "labctl.lab"
STATE_LABEL = "labctl.state"
"""The label that names the state folder of the lab that a container or a network belongs to."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of a removal: whether there was anything to remove, and what was left, with the reason."""

    changed: bool
    left: str = ""


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """Why a node will not become Ready by itself."""

    is_running: bool
    text: str
    hint: str = ""
    """What to do if starting the node again is not enough."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why this machine cannot run nodes, and how to fix it. `see` names the doctor's check that has the details."""

    text: str
    fix: str
    see: str = ""


@dataclass(frozen=True, slots=True)
class LabNetwork:
    """The lab's network on this machine: its interface, and the nodes in it by their MACs."""

    interface: str
    members: Mapping[str, str]


class Provider(Protocol):
    """The nodes of one lab: create, run and remove them."""

    def check(self, machine: Machine) -> Obstacle | None:
        """Return why the machine cannot run the lab's nodes, or None. Starts nothing."""

    def running(self) -> frozenset[str]:
        """Return the names of the lab's nodes that run; paused nodes do not."""

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Create or start these nodes, which then assemble themselves. Raises ProviderError."""

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        """Shut these nodes down, or power them off at once; `up` starts them again. Return the names of those that were on."""

    def destroy(self, report: Progress) -> Removed:
        """Remove every node of the lab, and everything that was created for them."""

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return the arguments of a program that runs `command`, or a login shell, on the node."""

    def run(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command on the node as root. Raises ProviderError if it takes longer."""

    def network(self) -> LabNetwork | None:
        """Return the lab's network on this machine; None if there is none, or the hypervisor does not show it."""

    def failure(self, node: Node) -> NodeFailure | None:
        """Return why a node that was started will not become Ready; None while it still may."""

    def collect_logs(self, node: Node, units: Sequence[str], lines: int = LAST_LINES) -> Mapping[str, tuple[str, ...]]:
        """Return the last lines of these units on the node, and of its console, by name.

        A unit that cannot be read is left out, or has the reason in place of its lines.
        """


class NodeImages(Protocol):
    """The hypervisor's images or boxes, from which nodes are created."""

    def prepare(self, bundle: Bundle, report: Progress) -> None:
        """Load the image or box from the bundle, unless it is loaded. Raises ProviderError."""

    def forget(self, image: str) -> None:
        """Remove the image of this name, if it exists. Raises ProviderError if a node uses it."""

    def list(self) -> tuple[str, ...]:
        """Return the names of the images that labctl has loaded."""


PAUSED = "paused"
RESUMES = "Run `labctl resume` to continue it."


def last_log_lines(logs: Mapping[str, tuple[str, ...]], unit: str = ASSEMBLY) -> tuple[str, ...]:
    """Return the last lines of a unit, or those of the console if the node did not answer."""
    return logs.get(unit) or logs.get(CONSOLE, ())
