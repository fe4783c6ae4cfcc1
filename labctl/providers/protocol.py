"""What makes nodes exist."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from labctl.host.process import LAST_LINES
from labctl.model.events import Progress
from labctl.model.lab import Node

ASSEMBLY = "labctl-node"
"""The unit in which a node assembles itself."""


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


class Provider(Protocol):
    """A lab's nodes, seen from outside: they are made, run, and are removed."""

    def running(self) -> frozenset[str]:
        """Return the names of the lab's nodes that run."""

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Make these nodes run; they assemble themselves from then on. Raises ProviderError."""

    def halt(self, names: Collection[str], report: Progress) -> None:
        """Stop the nodes of these names in good order; `up` starts them as they were."""

    def power_off(self, names: Collection[str], report: Progress) -> None:
        """Stop the nodes of these names as a power cut would; `up` starts them again."""

    def destroy(self, report: Progress) -> Removed:
        """Remove every node of the lab and what was made for them."""

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return the arguments of a program that runs `command`, or a login shell, on the node."""

    def log(self, node: Node, unit: str = ASSEMBLY, lines: int = LAST_LINES) -> tuple[str, ...]:
        """Return the last lines of a unit on the node, or why they cannot be had."""

    def trouble(self, node: Node) -> Trouble | None:
        """Return why the node, which was made to run, has given up; None while it may still become Ready."""
