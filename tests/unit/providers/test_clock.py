"""Check and set the clocks of nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from fakes import FakeProvider, lab

from labctl.host.process import Finished
from labctl.model.errors import ProviderError
from labctl.providers import clock

NODE = lab().control_plane


class FakeClock:
    """A node's clock that is `ahead` seconds ahead, and can be set unless `is_stuck`."""

    def __init__(self, ahead: float, *, is_stuck: bool = False) -> None:
        self.ahead = ahead
        self.is_stuck = is_stuck

    def __call__(self, command: Sequence[str]) -> Finished:
        if command == clock.READ:
            return Finished(0, f"{time.time() + self.ahead:.9f}\n", ())
        if self.is_stuck:
            return Finished(1, "", ("date: cannot set date",))
        self.ahead = float(command[-1].removeprefix("--set=@")) - time.time()
        return Finished(0, "", ())


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


def _time_out(_command: Sequence[str]) -> Finished:
    raise ProviderError("it takes longer", id="timeout")


@pytest.mark.parametrize(("ahead", "wrong"), [(0.0, False), (-0.5, False), (0.9, False), (-3600.0, True), (2.0, True)])
def test_a_clock_that_is_off_by_more_than_a_second_is_set(provider: FakeProvider, ahead: float, wrong: bool) -> None:  # noqa: FBT001
    node_clock = provider.answers[NODE.name] = FakeClock(ahead)

    assert bool(clock.offset(provider, NODE, 1)) is wrong
    assert clock.correct(provider, NODE, 1) == pytest.approx(ahead if wrong else 0, abs=0.1)
    assert node_clock.ahead == pytest.approx(0 if wrong else ahead, abs=0.1)


@pytest.mark.parametrize(
    "read_clock", [lambda _: Finished(255, "", ("no route",)), lambda _: Finished(0, "what?\n", ()), _time_out]
)
def test_a_node_with_an_unreadable_clock_is_not_changed(
    provider: FakeProvider, read_clock: Callable[[Sequence[str]], Finished]
) -> None:
    provider.answers[NODE.name] = read_clock

    assert clock.offset(provider, NODE, 1) is None
    assert clock.correct(provider, NODE, 1) == 0


def test_a_clock_that_cannot_be_set_is_an_error_that_names_the_node(provider: FakeProvider) -> None:
    provider.answers[NODE.name] = FakeClock(-60, is_stuck=True)

    with pytest.raises(ProviderError, match=NODE.name) as raised:
        clock.correct(provider, NODE, 1)

    assert (raised.value.id, raised.value.details) == ("clock-not-set", ("date: cannot set date",))
