"""What makes nodes exist."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from labctl.events import Say
from labctl.lab import Node


class Provider(Protocol):
    """A lab's nodes, seen from outside: they are made, run, and are removed."""

    def running(self) -> frozenset[str]:
        """Return the names of the lab's nodes that run."""

    def up(self, nodes: Sequence[Node], say: Say) -> None:
        """Make these nodes run; they assemble themselves from then on. Raises ProviderError."""

    def halt(self, names: Collection[str], say: Say) -> None:
        """Stop the nodes of these names in good order; `up` starts them as they were."""

    def power_off(self, names: Collection[str], say: Say) -> None:
        """Stop the nodes of these names as a power cut would; `up` starts them again."""

    def destroy(self, say: Say) -> bool:
        """Remove every node of the lab and what was made for them; True if there was something."""

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return the arguments of a program that runs `command`, or a login shell, on the node."""

    def log(self, node: Node) -> tuple[str, ...]:
        """Return the last lines that the node wrote while it assembled itself."""
