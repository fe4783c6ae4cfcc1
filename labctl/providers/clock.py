"""The clocks of virtual machines, which stop while this machine is suspended, and show old times after a snapshot."""

from __future__ import annotations

import re
import time

from labctl.model.errors import ProviderError
from labctl.model.lab import Node
from labctl.providers.protocol import Provider

OFF_SECONDS = 1.0
"""A smaller difference is harmless."""
READ = ("date", "+%s.%N")


def offset(provider: Provider, node: Node, seconds: float) -> float | None:
    """Return how many seconds the node's clock is ahead of this machine's: 0 if it is right, None if it is unknown."""
    sent_at = time.time()
    try:
        finished = provider.run(node, READ, seconds)
    except ProviderError:
        return None  # it is booting or hangs, which callers that wait for it report
    received_at = time.time()
    if finished.code != 0 or not re.fullmatch(r"\d+\.\d+", text := finished.out.strip()):
        return None
    ahead = float(text) - (sent_at + received_at) / 2
    return ahead if abs(ahead) > OFF_SECONDS + (received_at - sent_at) / 2 else 0.0


def correct(provider: Provider, node: Node, seconds: float) -> float:
    """Set the node's clock to this machine's if it is off; return the offset it had. Raises ProviderError."""
    ahead = offset(provider, node, seconds)
    if not ahead:
        return 0.0
    finished = provider.run(node, ("date", "--utc", f"--set=@{time.time():.3f}"), seconds)
    if finished.code != 0:
        raise ProviderError(
            f"the clock of node {node.name} is {offset_text(ahead)}, and cannot be set",
            id="clock-not-set",
            hint=f"`labctl halt {node.name}`, then `labctl resume`, boots it with the right time.",
            details=finished.last_lines,
        )
    return ahead


def offset_text(ahead: float) -> str:
    """Return a clock's offset as text."""
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
