"""A client that asks for a hostname ten times a second while a scene is played, and what it saw."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from labctl.host import http_probe, wait
from labctl.host.http_probe import Answer
from labctl.host.wait import Pending
from labctl.model.reports import LoadReport

EVERY_SECONDS = 0.1
WORKERS = 32
"""More than requests that nobody answers can be on their way at once; where even these are, one more tells nothing."""
GOOD_SECONDS = 60.0
"""How long a good answer is waited for, at the beginning and at the end."""
LOOK_SECONDS = 0.05

Ask = Callable[[str], Answer]


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer, and when it was there."""

    at: float
    answer: Answer

    @property
    def is_good(self) -> bool:
        """Whether the app itself answered."""
        return self.answer.is_good


def report(
    hostname: str, samples: Sequence[Sample], began: float, ended: float, first_command: float | None
) -> LoadReport:
    """The numbers of what was answered between two moments, both included."""
    within = sorted((sample for sample in samples if began <= sample.at <= ended), key=lambda sample: sample.at)
    good = [sample.at for sample in within if sample.is_good]
    per_second = [0] * max(1, math.ceil(ended - began))
    for at in good:
        per_second[min(int(at - began), len(per_second) - 1)] += 1
    return {
        "hostname": hostname,
        "seconds": round(ended - began, 2),
        "answers": len(good),
        "failures": len(within) - len(good),
        "gap": round(max((later - earlier for earlier, later in pairwise([began, *good, ended])), default=0.0), 2),
        "per_second": per_second,
        "first_command": None if first_command is None else round(first_command - began, 2),
    }


class Load:
    """Asks for a hostname again and again, each time on a connection of its own, until it is stopped.

    A request that hangs does not hold up the next one, so that it cannot hide that the app answers again.
    """

    def __init__(
        self,
        hostname: str,
        ask: Ask = http_probe.get,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.hostname = hostname
        self.first_command: float | None = None
        self._ask = ask
        self._clock = clock
        self._sleep = sleep
        self._samples: list[Sample] = []
        self._began: float | None = None
        self._ended: float | None = None
        self._is_over = threading.Event()
        self._free = threading.BoundedSemaphore(WORKERS)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="load")
        self._rhythm = threading.Thread(target=self._keep_asking, name="load", daemon=True)

    def begin(self, before: float) -> None:
        """Requests are made, and all answers have been good for `before` seconds.

        Raises NotReadyError where that is not so a minute later.
        """
        self._rhythm.start()
        self._began = self._until(lambda: self._steady_since(before), GOOD_SECONDS + before)

    def finish(self, after: float) -> None:
        """Requests went on for `after` seconds, and then there was another good answer. Raises NotReadyError."""
        end = self._clock() + after
        self._ended = self._until(lambda: self._good_after(end), GOOD_SECONDS + after)

    def stop(self) -> None:
        """No request is made any more, and none is on its way."""
        self._ended = self._clock() if self._ended is None else self._ended
        self._is_over.set()
        if self._rhythm.is_alive():
            self._rhythm.join()
        self._pool.shutdown()

    def report(self) -> LoadReport:
        """The numbers from the beginning to the end, or to now where the end was not reached."""
        ended = self._clock() if self._ended is None else self._ended
        began = ended if self._began is None else self._began
        return report(self.hostname, self._samples, began, ended, self.first_command)

    def _until(self, look: Callable[[], float | Pending], timeout: float) -> float:
        return wait.until(
            look,
            what=f"http://{self.hostname}",
            timeout=timeout,
            interval=LOOK_SECONDS,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _steady_since(self, seconds: float) -> float | Pending:
        steady: list[Sample] = []
        for sample in list(self._samples):
            steady = [*steady, sample] if sample.is_good else []
        if steady and self._clock() - steady[0].at >= seconds:
            return steady[0].at
        return Pending(self._last_told())

    def _good_after(self, moment: float) -> float | Pending:
        good = next((sample.at for sample in list(self._samples) if sample.is_good and sample.at >= moment), None)
        return Pending(self._last_told()) if good is None else good

    def _last_told(self) -> str:
        return str(self._samples[-1].answer) if self._samples else "no answer yet"

    def _keep_asking(self) -> None:
        due = self._clock()
        while not self._is_over.wait(max(0.0, due - self._clock())):
            due += EVERY_SECONDS
            if self._free.acquire(blocking=False):
                self._pool.submit(self._request)

    def _request(self) -> None:
        try:
            answer = self._ask(self.hostname)
            self._samples.append(Sample(self._clock(), answer))
        finally:
            self._free.release()
