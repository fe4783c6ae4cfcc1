"""Retries: a few, after growing pauses or after the time that the server names."""

from __future__ import annotations

from collections.abc import Callable

from labctl.model.events import Progress
from labctl.transfer.failures import TransientError

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each retry. A request that got further than before has all of them again."""
WAIT_SECONDS = 60.0
"""The total time to wait for servers that name a time."""


class Retries:
    """The retries of one request. `sleep` waits for a number of seconds."""

    def __init__(self, report: Progress, sleep: Callable[[float], object]) -> None:
        self._report = report
        self._sleep = sleep
        self._failures = 0
        self._patience = WAIT_SECONDS

    def progressed(self) -> None:
        """Reset the count of failures: the transfer got further than before."""
        self._failures = 0

    def pause(self, error: TransientError) -> None:
        """Wait before the next attempt. Raises MissingError if no retry is left, or if the wait would be too long."""
        if self._failures == len(PAUSES) or (error.after or 0) > self._patience:
            raise error.final from error
        pause = PAUSES[self._failures] if error.after is None else error.after
        self._failures += 1
        self._patience -= error.after or 0
        self._report(f"{error.message}; retrying in {pause:.0f} s")
        self._sleep(pause)
