from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from labctl.errors import ExitCode, NotReadyError
from labctl.wait import Pending, until


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def test_what_is_there_already_is_returned_without_sleeping() -> None:
    clock = FakeClock()

    assert until(lambda: "node", what="the node", timeout=0, clock=clock, sleep=clock.sleep) == "node"
    assert clock.sleeps == []


@pytest.mark.parametrize("value", [None, False, 0, ""])
def test_an_empty_value_is_an_answer(value: object) -> None:
    assert until(lambda: value, what="it", timeout=0) is value


def test_it_looks_again_at_every_interval_until_the_value_is_there() -> None:
    clock = FakeClock()
    look = _answers(Pending("booting"), Pending("joining"), "ready")

    assert until(look, what="the node", timeout=5, interval=0.5, clock=clock, sleep=clock.sleep) == "ready"
    assert clock.sleeps == [0.5, 0.5]


def test_after_the_time_is_up_the_error_names_what_was_waited_for_and_the_last_reason() -> None:
    clock = FakeClock()
    look = _answers(Pending("booting"), Pending("joining"), Pending("no address"))

    with pytest.raises(NotReadyError, match=r"^node demo-worker-1 was not ready after 2 s: no address$") as caught:
        until(look, what="node demo-worker-1", timeout=2, hint="look", interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.exit_code) == ("not-ready", "look", ExitCode.NOT_READY)


def test_a_failure_of_the_look_itself_is_not_waited_out() -> None:
    def look() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until(look, what="it", timeout=60)


def _answers(*answers: str | Pending) -> Callable[[], str | Pending]:
    left: Iterator[str | Pending] = iter(answers)
    return lambda: next(left)
