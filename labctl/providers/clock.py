"""The clocks of virtual machines: they stand still while this machine is suspended, or are those of a snapshot."""

from __future__ import annotations

import re
import time

from labctl.model.errors import ProviderError
from labctl.model.lab import Node
from labctl.providers.protocol import Provider

OFF_SECONDS = 1.0
"""A smaller difference harms nothing."""
READ = ("date", "+%s.%N")


def offset(provider: Provider, node: Node, seconds: float) -> float | None:
    """Return how many seconds the node's clock is ahead of this machine's: 0 if it is right, None if it is not told."""
    asked = time.time()
    try:
        finished = provider.ask(node, READ, seconds)
    except ProviderError:
        return None  # it boots, or hangs; that is reported by those who wait for it
    answered = time.time()
    if finished.code != 0 or not re.fullmatch(r"\d+\.\d+", text := finished.out.strip()):
        return None
    ahead = float(text) - (asked + answered) / 2
    return ahead if abs(ahead) > OFF_SECONDS + (answered - asked) / 2 else 0.0


def correct(provider: Provider, node: Node, seconds: float) -> float:
    """Set the node's clock by this machine's if it is off; return by how much it was. Raises ProviderError."""
    ahead = offset(provider, node, seconds)
    if not ahead:
        return 0.0
    finished = provider.ask(node, ("date", "--utc", f"--set=@{time.time():.3f}"), seconds)
    if finished.code != 0:
        raise ProviderError(
            f"the clock of node {node.name} is {described(ahead)}, and cannot be set",
            id="clock-not-set",
            hint=f"`labctl halt {node.name}`, then `labctl resume`, boots it with the right time.",
            details=finished.last_lines,
        )
    return ahead


def described(ahead: float) -> str:
    """Return in words how far a clock is off."""
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
