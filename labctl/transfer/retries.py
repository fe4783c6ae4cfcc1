"""Trying again: a few times, later each time, or when the server says."""

from __future__ import annotations

from collections.abc import Callable

from labctl.model.events import Progress
from labctl.transfer.failures import PassingError

PAUSES = (1.0, 2.0, 4.0)
"""Before each further attempt. A request that went further than before may have all of them again."""
WAIT_SECONDS = 60.0
"""How long servers that name a time are waited for, in all."""


class Retries:
    """The failures of one request. `sleep` waits so many seconds."""

    def __init__(self, report: Progress, sleep: Callable[[float], object]) -> None:
        self._report = report
        self._sleep = sleep
        self._failures = 0
        self._patience = WAIT_SECONDS

    def progressed(self) -> None:
        """Take it that the failures so far have passed: content arrived that had not arrived before."""
        self._failures = 0

    def pause(self, error: PassingError) -> None:
        """Wait before the next attempt. Raises MissingError if there were enough, or if it is too long."""
        if self._failures == len(PAUSES) or (error.after or 0) > self._patience:
            raise error.final from error
        pause = PAUSES[self._failures] if error.after is None else error.after
        self._failures += 1
        self._patience -= error.after or 0
        self._report(f"{error.message}; trying again in {pause:.0f} s")
        self._sleep(pause)
