"""The one place that waits: poll a condition until it holds or its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from labctl.errors import NotReadyError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet, and why; the last reason ends up in the error."""

    reason: str


def until(
    look: Callable[[], T | Pending],
    *,
    what: str,
    timeout: float,
    hint: str = "",
    interval: float = 0.2,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the first value of `look` that is not Pending.

    Looks at least once. Raises NotReadyError naming `what` and the last reason after `timeout` seconds.
    """
    deadline = clock() + timeout
    while isinstance(seen := look(), Pending):
        if clock() >= deadline:
            raise NotReadyError(f"{what} was not ready after {timeout:.0f} s: {seen.reason}", id="not-ready", hint=hint)
        sleep(interval)
    return seen
