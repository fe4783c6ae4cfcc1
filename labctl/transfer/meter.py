"""Progress of a transfer: bytes, rate and remaining time."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from labctl.model.events import Progress

EVERY_SECONDS = 1.0
WINDOW_SECONDS = 10.0
"""The period over which the rate is averaged."""
MINUTE = 60
MIB = 1 << 20


class Meter:
    """A progress meter that counts in any thread and reports in the one that calls `tick`."""

    def __init__(self, doing: str, total: int, report: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._doing = doing
        self._total = total
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._done = 0
        self._samples = deque([(clock(), 0)])
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()

    def add(self, size: int) -> None:
        """Count transferred bytes; a negative size takes back bytes that have to be transferred again."""
        with self._lock:
            self._done += size

    def start_at(self, size: int) -> None:
        """Count bytes of an earlier run, without an effect on the rate."""
        with self._lock:
            self._done += size
            self._samples = deque((at, done + size) for at, done in self._samples)

    def expect(self, size: int) -> None:
        """Add bytes to the expected total."""
        with self._lock:
            self._total += size

    def note(self, text: str) -> None:
        """Queue a text for the next `tick`."""
        self._notes.put(text)

    def tick(self) -> None:
        """Report the queued texts and, every second, the progress."""
        while not self._notes.empty():
            self._report(self._notes.get())
        now = self._clock()
        if now - self._samples[-1][0] < EVERY_SECONDS:
            return
        with self._lock:
            self._samples.append((now, self._done))
            while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_SECONDS:  # noqa: PLR2004 - a rate has two ends
                self._samples.popleft()
            text = self._text()
        self._report(text)

    def _text(self) -> str:
        (since, before), (now, done) = self._samples[0], self._samples[-1]
        rate = max(0, done - before) / (now - since)
        share = (
            f"{done / MIB:.0f} of {self._total / MIB:.0f} MiB"
            if self._total >= max(done, 1)
            else f"{done / MIB:.0f} MiB"
        )
        left = f", {duration((self._total - done) / rate)} left" if rate and self._total > done else ""
        return f"{self._doing}: {share}, {rate / MIB:.1f} MiB/s{left}"


def duration(seconds: float) -> str:
    """Return a duration as text, in seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < MINUTE else f"{seconds / MINUTE:.0f} min"
