"""Parallel threads, and how they stop."""

from __future__ import annotations

import threading

import pytest

from labctl.transfer import parallel


def _interrupt() -> None:
    raise KeyboardInterrupt


def _fail(number: int) -> None:
    raise IndexError(number)


def test_results_are_in_order_and_the_first_failure_is_raised() -> None:
    stopped = threading.Event()

    assert parallel.run_in_parallel(lambda number: number * 2, range(9), stop=stopped.set) == list(range(0, 18, 2))
    assert not stopped.is_set()
    with pytest.raises(IndexError):  # it must not count as the end of the queue
        parallel.run_in_parallel(_fail, range(9), stop=stopped.set)
    assert stopped.is_set()


def test_ctrl_c_stops_threads_that_wait_for_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "END_SECONDS", 0.01)
    monkeypatch.setattr(parallel, "TICK_SECONDS", 0.01)
    never_set, stopped = threading.Event(), threading.Event()
    try:
        with pytest.raises(KeyboardInterrupt):
            parallel.run_in_parallel(lambda _item: never_set.wait(60), range(8), stop=stopped.set, tick=_interrupt)
        assert stopped.is_set()
    finally:
        never_set.set()
