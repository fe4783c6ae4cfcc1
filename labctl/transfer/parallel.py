"""A function applied to many items in parallel threads, which stop soon after the first failure or Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

THREADS = 4
TICK_SECONDS = 0.2
END_SECONDS = 2.0
"""Time limit for the threads to stop. They are daemons: one that still waits for a response ends with the process."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """A thread's work was abandoned because another thread failed or the transfer was stopped."""


def run_in_parallel(
    act: Callable[[Item], Result],
    items: Collection[Item],
    *,
    stop: Callable[[], object],
    tick: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Act on several items in parallel; return the results in order. Call `tick` meanwhile, in this thread.

    Raises the first failure. Then, and after Ctrl-C, `stop` is called: it must end what `act` waits for.
    """
    waiting, results, failures = deque(enumerate(items)), dict[int, Result](), list[BaseException]()

    def work() -> None:
        while not failures:
            try:
                position, item = waiting.popleft()
            except IndexError:  # another thread has taken the last one
                return
            try:
                results[position] = act(item)
            except BaseException as error:  # noqa: BLE001 - the calling thread raises it
                failures.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(items)))]
    for thread in threads:
        thread.start()
    try:
        while (alive := [thread for thread in threads if thread.is_alive()]) and not failures:
            alive[0].join(TICK_SECONDS)
            tick()
    finally:
        if failures or len(results) < len(items):
            failures.append(StoppedError())  # so that no thread starts another item
            stop()
            _await_end(threads)
    if failures:
        raise failures[0]
    return [results[position] for position in range(len(items))]


def _await_end(threads: Iterable[threading.Thread]) -> None:
    deadline = time.monotonic() + END_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
