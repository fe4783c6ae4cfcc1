"""What a hypervisor, or a container engine, must be able to do for a lab."""

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
"""What the log of a node's own machine is called, beside the names of units."""
LAB_LABEL = "labctl.lab"
STATE_LABEL = "labctl.state"
"""The label that names the state folder of the lab that a container or a network belongs to."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a lab's nodes: whether there was something to remove, and what had to be left, with the reason."""

    changed: bool
    left: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a node does not become Ready by itself any more."""

    is_running: bool
    text: str
    hint: str = ""
    """What to do, where it is more than to start the node again."""


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
        """Return the names of the lab's nodes that run; one that is paused does not."""

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Make these nodes run; they assemble themselves from then on. Raises ProviderError."""

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        """Shut these nodes down, or power them off at once; `up` starts them again. Return the names of those that were on."""

    def destroy(self, report: Progress) -> Removed:
        """Remove every node of the lab and what was made for them."""

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return the arguments of a program that runs `command`, or a login shell, on the node."""

    def ask(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command on the node as root. Raises ProviderError if it takes longer."""

    def network(self) -> LabNetwork | None:
        """Return the lab's network on this machine; None where there is none, or the hypervisor does not show it."""

    def trouble(self, node: Node) -> Trouble | None:
        """Return why the node, which was made to run, has given up; None while it may still become Ready."""

    def collect_logs(self, node: Node, units: Sequence[str], lines: int = LAST_LINES) -> Mapping[str, tuple[str, ...]]:
        """Return the last lines of these units on the node, and of its console, by name.

        A unit that cannot be read is left out, or has the reason for its lines.
        """


class NodeImages(Protocol):
    """The images or boxes that nodes are made from, as the hypervisor has them."""

    def prepare(self, bundle: Bundle, report: Progress) -> None:
        """Load what nodes start from out of the bundle, unless it is loaded. Raises ProviderError."""

    def forget(self, image: str) -> None:
        """Remove the image of this name, if it is there. Raises ProviderError if a node uses it."""

    def list(self) -> tuple[str, ...]:
        """Return the names of the images that labctl has loaded."""


PAUSED = "paused"
RESUMES = "Run `labctl resume` to let it go on."


def last_words(logs: Mapping[str, tuple[str, ...]], unit: str = ASSEMBLY) -> tuple[str, ...]:
    """Return what a unit wrote last; of a node that cannot be asked, what its console shows."""
    return logs.get(unit) or logs.get(CONSOLE, ())
