"""Waits with a timeout, an interval, and reasons that end them early."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from labctl.host.wait import Pending, pending_while_unready, throttled, until
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


def test_an_available_value_is_returned_without_sleeping() -> None:
    clock = FakeClock()

    assert until(lambda: "node", what="the node", timeout=0, clock=clock, sleep=clock.sleep) == "node"
    assert clock.sleeps == []


@pytest.mark.parametrize("value", [None, False, 0, ""])
def test_a_falsy_value_ends_the_wait(value: object) -> None:
    assert until(lambda: value, what="it", timeout=0) is value


def test_the_value_is_polled_at_every_interval_until_it_is_available() -> None:
    clock = FakeClock()
    poll = _poll_results(Pending("booting"), Pending("joining"), "ready")

    assert until(poll, what="the node", timeout=5, interval=0.5, clock=clock, sleep=clock.sleep) == "ready"
    assert clock.sleeps == [0.5, 0.5]


def test_the_error_after_the_timeout_names_the_object_and_the_last_reason() -> None:
    clock = FakeClock()
    poll = _poll_results(Pending("booting"), Pending("joining"), Pending("no address"))

    with pytest.raises(
        NotReadyError, match=r"^timed out after 2 s waiting for node demo-worker-1: no address$"
    ) as caught:
        until(poll, what="node demo-worker-1", timeout=2, hint="look", interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.exit_code) == ("not-ready", "look", ExitCode.NOT_READY)


def test_a_reason_that_exceeds_its_patience_ends_the_wait_with_its_id_hint_and_details() -> None:
    clock = FakeClock()
    refused = Pending("refused", "probe-fails", "describe", 3, lambda: ("the log",))
    poll = _poll_results(Pending("starting"), refused, Pending("restarting"), *[refused] * 9)

    with pytest.raises(NotReadyError, match=r"the app.*refused") as caught:
        until(poll, what="the app", timeout=60, interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.details) == ("probe-fails", "describe", ("the log",))
    assert len(clock.sleeps) == 6, "three seconds of the reason in a row"


A, B, C, UNKNOWN = Pending("a", "a", patience=4), Pending("b", "b", patience=9), Pending("c", "c"), Pending("starting")


@pytest.mark.parametrize(
    ("results", "identity", "sleeps"),
    [
        ([A, A, B, A, A], "a", 4),
        ([A, B] * 9, "a", 4),
        ([C, A, C, A, C, A], "a", 5),
        ([A, B, B, A, A, A, A, A], "a", 7),
        ([A, B, C, A, A, A, A, A], "a", 7),
        ([A, UNKNOWN, A, A, A, A, A], "a", 6),
        ([B, A, B, UNKNOWN, A, B] + [A] * 9, "a", 8),
    ],
    ids=["once", "flickers", "flickers with one that has patience", "twice", "two", "unknown", "unknown in between"],
)
def test_a_single_other_reason_does_not_reset_the_patience(results: list[Pending], identity: str, sleeps: int) -> None:
    clock = FakeClock()

    with pytest.raises(NotReadyError) as caught:
        until(_poll_results(*results), what="it", timeout=60, interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, len(clock.sleeps)) == (identity, sleeps)


def test_a_permanent_reason_ends_the_wait_at_once() -> None:
    clock = FakeClock()

    with pytest.raises(NotReadyError) as caught:
        until(lambda: Pending("no image", "image", patience=0), what="it", timeout=60, clock=clock, sleep=clock.sleep)

    assert caught.value.id == "image"
    assert clock.sleeps == []


def test_the_error_after_the_timeout_has_the_id_and_the_details_of_the_last_reason() -> None:
    clock = FakeClock()
    slow = Pending("slow", "probe-fails", details=lambda: ("the log",))

    with pytest.raises(NotReadyError, match=r"\b2 s\b.*slow") as caught:
        until(lambda: slow, what="it", timeout=2, hint="look", interval=1, clock=clock, sleep=clock.sleep)

    assert (caught.value.id, caught.value.hint, caught.value.details) == ("probe-fails", "look", ("the log",))


def test_a_not_ready_error_is_pending() -> None:
    def unready() -> str:
        raise NotReadyError("the API server does not answer", id="api-unreachable")

    assert pending_while_unready(unready) == Pending("the API server does not answer")
    assert pending_while_unready(lambda: "ready") == "ready"


def test_a_rarely_polled_value_is_cached_in_between() -> None:
    clock = FakeClock()
    poll = throttled(_poll_results("first", "second"), 2, clock=clock)

    values = []
    for _ in range(5):
        values.append(poll())
        clock.sleep(1)

    assert values == [None, None, "first", "first", "second"]


def test_an_exception_of_the_poll_is_raised() -> None:
    def poll() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until(poll, what="it", timeout=60)


def _poll_results(*results: str | Pending) -> Callable[[], str | Pending]:
    left: Iterator[str | Pending] = iter(results)
    return lambda: next(left)
