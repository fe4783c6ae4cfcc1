"""Poll a condition until it holds or its time limit is reached."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from labctl.model.errors import NotReadyError

T = TypeVar("T")

NOT_READY = "not-ready"
"""The id of a pending condition whose cause is unknown."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The condition does not hold yet, and why; the error names the last reason."""

    reason: str
    id: str = NOT_READY
    """The error's id if the wait ends with this."""
    hint: str = ""
    patience: float = math.inf
    """After how many seconds of this id the wait gives up early; one other known id in between does not restart them."""
    details: Callable[[], tuple[str, ...]] = field(default=tuple, compare=False)
    """More about it, computed only if the wait ends with this."""


def until(
    condition: Callable[[], T | Pending],
    *,
    what: str,
    timeout: float,
    hint: str = "",
    interval: float = 0.2,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the first value of `condition` that is not Pending.

    Check at least once. Raises NotReadyError naming `what` and the last reason after `timeout` seconds, or as soon as
    what is pending has lasted longer than its patience.
    """
    deadline = clock() + timeout
    since: dict[str, float] = {}
    last = ""
    while isinstance(result := condition(), Pending):
        now = clock()
        # If two causes alternate, neither must restart the other's patience, or no patience would ever end. An unknown
        # cause restarts both: something is still in progress.
        lasting = {result.id} if result.id == NOT_READY else {last, result.id}
        since = {each: began for each, began in since.items() if each in lasting}
        began, last = since.setdefault(result.id, now), result.id
        if now - began >= result.patience or now >= deadline:
            end = f"timed out after {timeout:.0f} s" if now >= deadline and timeout else "gave up"
            raise NotReadyError(
                f"{end} waiting for {what}: {result.reason}",
                id=result.id,
                hint=result.hint or hint,
                details=result.details(),
            )
        sleep(interval)
    return result


def pending_while_unready(act: Callable[[], T]) -> T | Pending:
    """Return what `act` returns, or Pending for a NotReadyError, as of an API or a webhook that does not answer yet."""
    try:
        return act()
    except NotReadyError as error:
        return Pending(error.message)


def throttled(
    function: Callable[[], T], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Callable[[], T | None]:
    """Return a function that calls `function` at most every `seconds`, and returns its last result; None at first."""
    last, result = clock(), None

    def call() -> T | None:
        nonlocal last, result
        if clock() - last >= seconds:
            result = function()
            last = clock()
        return result

    return call
