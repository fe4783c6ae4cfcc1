from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from labctl.host.wait import Pending, pending_while_unready, seldom, until
from labctl.model.errors import ExitCode, NotReadyError


class FakeClock:
    """A clock that advances only by sleeping."""

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

    with pytest.raises(
        NotReadyError, match=r"^timed out after 2 s waiting for node demo-worker-1: no address$"
    ) as caught:
        until(look, what="node demo-worker-1", timeout=2, hint="look", interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.exit_code) == ("not-ready", "look", ExitCode.NOT_READY)


def test_what_lasts_longer_than_its_patience_ends_the_wait_with_its_id_hint_and_details() -> None:
    clock = FakeClock()
    refused = Pending("refused", "probe-fails", "describe", 3, lambda: ("the log",))
    look = _answers(Pending("starting"), refused, Pending("restarting"), *[refused] * 9)

    with pytest.raises(NotReadyError, match=r"^gave up waiting for the app: refused$") as caught:
        until(look, what="the app", timeout=60, interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.details) == ("probe-fails", "describe", ("the log",))
    assert len(clock.sleeps) == 6, "three seconds of it without a break"


A, B, C, UNKNOWN = Pending("a", "a", patience=4), Pending("b", "b", patience=9), Pending("c", "c"), Pending("starting")


@pytest.mark.parametrize(
    ("looks", "identity", "sleeps"),
    [
        ([A, A, B, A, A], "a", 4),
        ([A, B] * 9, "a", 4),
        ([C, A, C, A, C, A], "a", 5),
        ([A, B, B, A, A, A, A, A], "a", 7),
        ([A, B, C, A, A, A, A, A], "a", 7),
        ([A, UNKNOWN, A, A, A, A, A], "a", 6),
        ([B, A, B, UNKNOWN, A, B] + [A] * 9, "a", 8),
    ],
    ids=["once", "flickers", "flickers with one that may last", "twice", "two", "unknown", "unknown in a flicker"],
)
def test_another_cause_seen_once_does_not_begin_the_patience_again(
    looks: list[Pending], identity: str, sleeps: int
) -> None:
    clock = FakeClock()

    with pytest.raises(NotReadyError) as caught:
        until(_answers(*looks), what="it", timeout=60, interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, len(clock.sleeps)) == (identity, sleeps)


def test_what_cannot_pass_is_not_waited_for() -> None:
    clock = FakeClock()

    with pytest.raises(NotReadyError) as caught:
        until(lambda: Pending("no image", "image", patience=0), what="it", timeout=60, clock=clock, sleep=clock.sleep)

    assert caught.value.id == "image"
    assert clock.sleeps == []


def test_at_the_end_of_its_time_the_last_reason_gives_id_and_details() -> None:
    clock = FakeClock()
    slow = Pending("slow", "probe-fails", details=lambda: ("the log",))

    with pytest.raises(NotReadyError, match="after 2 s waiting for it: slow") as caught:
        until(lambda: slow, what="it", timeout=2, hint="look", interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.details) == ("probe-fails", "look", ("the log",))


def test_a_passing_failure_is_no_answer_yet() -> None:
    def unready() -> str:
        raise NotReadyError("the API server does not answer", id="api-unreachable")

    assert pending_while_unready(unready) == Pending("the API server does not answer")
    assert pending_while_unready(lambda: "ready") == "ready"


def test_what_is_looked_at_seldom_is_remembered_meanwhile() -> None:
    clock = FakeClock()
    look = seldom(_answers("first", "second"), 2, clock=clock)

    seen = []
    for _ in range(5):
        seen.append(look())
        clock.sleep(1)

    assert seen == [None, None, "first", "first", "second"]


def test_a_failure_of_the_look_itself_is_not_waited_out() -> None:
    def look() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until(look, what="it", timeout=60)


def _answers(*answers: str | Pending) -> Callable[[], str | Pending]:
    left: Iterator[str | Pending] = iter(answers)
    return lambda: next(left)
