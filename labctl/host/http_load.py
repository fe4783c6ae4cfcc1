"""An HTTP client that requests a hostname ten times a second, and the report of its measurements."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, takewhile
from typing import NamedTuple

from labctl.host import http_probe, wait
from labctl.host.http_probe import ProbeResult
from labctl.host.wait import Pending
from labctl.model.demo_reports import LoadReport
from labctl.model.limits import NORMAL

EVERY_SECONDS = 0.1
WORKERS = 32
"""The limit of concurrent requests. While all of them wait for an answer, another one would add no information."""
POLL_SECONDS = 0.05


class Sample(NamedTuple):
    """An answer, and when it arrived."""

    at: float
    answer: ProbeResult


def report(
    hostname: str, samples: Sequence[Sample], began: float, ended: float, first_command: float | None
) -> LoadReport:
    """Return the results from `began` to `ended`, both included."""
    within = sorted((each for each in samples if began <= each.at <= ended), key=lambda each: each.at)
    good = [sample.at for sample in within if sample.answer.is_good]
    per_second = [0] * max(1, math.ceil(ended - began))
    for at in good:
        per_second[min(int(at - began), len(per_second) - 1)] += 1
    return {
        "hostname": hostname,
        "seconds": round(ended - began, 2),
        "answers": len(good),
        "failures": len(within) - len(good),
        "gap": round(max(later - earlier for earlier, later in pairwise([began, *good, ended])), 2),
        "per_second": per_second,
        "first_command": None if first_command is None else round(first_command - began, 2),
    }


class Load:
    """A client that sends a request every tenth of a second, each on its own connection, until it is stopped.

    A request that hangs does not delay the next one, so the first good answer after an outage is noticed at once.
    """

    def __init__(
        self,
        hostname: str,
        ask: Callable[[str], ProbeResult] = http_probe.get,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = NORMAL.http_good,
    ) -> None:
        """`patience` is how many seconds to wait for a good answer at the beginning and at the end."""
        self._patience = patience
        self._hostname, self._ask, self._clock, self._sleep = hostname, ask, clock, sleep
        self.first_command: float | None = None
        self._began: float | None = None
        self._ended: float | None = None
        self._samples: list[Sample] = []
        self._is_over = threading.Event()
        self._free = threading.BoundedSemaphore(WORKERS)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="load")
        self._sender = threading.Thread(target=self._send_requests, name="load", daemon=True)

    def start(self, before: float) -> None:
        """Start requests, and wait until all answers were good for `before` seconds. Raises NotReadyError."""

        def began() -> float | Pending:
            streak = list(takewhile(lambda sample: sample.answer.is_good, reversed(self._samples.copy())))
            is_long = streak and self._clock() - streak[-1].at >= before
            return streak[-1].at if is_long else self._pending()

        self._sender.start()
        self._began = self._wait_until(began, before)

    def finish(self, after: float) -> None:
        """Continue for `after` seconds, and then until the next good answer. Raises NotReadyError."""
        end = self._clock() + after

        def ended() -> float | Pending:
            good = (sample.at for sample in self._samples.copy() if sample.answer.is_good and sample.at >= end)
            return next(good, self._pending())

        self._ended = self._wait_until(ended, after)

    def stop(self) -> LoadReport:
        """Send no more requests, wait for the last answers, and return the results until the end, or until now."""
        ended = self._clock() if self._ended is None else self._ended
        self._is_over.set()
        if self._sender.is_alive():
            self._sender.join()
        self._pool.shutdown()
        began = ended if self._began is None else self._began
        return report(self._hostname, self._samples, began, ended, self.first_command)

    def _wait_until(self, look: Callable[[], float | Pending], seconds: float) -> float:
        return wait.until(
            look,
            what=f"http://{self._hostname}",
            timeout=seconds + self._patience,
            interval=POLL_SECONDS,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _pending(self) -> Pending:
        return Pending(str(self._samples[-1].answer) if self._samples else "no answer yet")

    def _send_requests(self) -> None:
        due = self._clock()
        while not self._is_over.wait(max(0.0, due - self._clock())):
            due += EVERY_SECONDS
            if self._free.acquire(blocking=False):
                self._pool.submit(self._request)

    def _request(self) -> None:
        try:
            self._samples.append(Sample(answer=self._ask(self._hostname), at=self._clock()))
        finally:
            self._free.release()
