"""The progress and the retries of a transfer."""

from __future__ import annotations

import pytest

from labctl.model.errors import MissingError
from labctl.transfer.failures import TransientError
from labctl.transfer.meter import MIB, Meter
from labctl.transfer.retries import PAUSES, WAIT_SECONDS, Retries


def test_progress_shows_bytes_rate_and_time_left() -> None:
    texts = list[str]()
    meter = Meter("fetching", 100 * MIB, texts.append, iter([0, 0.5, 1.0, 1.5, 2.0, 2.1]).__next__)
    meter.start_at(20 * MIB)
    for _ in range(4):
        meter.add(5 * MIB)
        meter.tick()
    meter.note("waiting")
    meter.tick()

    assert texts == [
        "fetching: 30 of 100 MiB, 10.0 MiB/s, 7 s left",
        "fetching: 40 of 100 MiB, 10.0 MiB/s, 6 s left",
        "waiting",
    ]


def test_progress_of_an_unknown_size_or_a_stalled_transfer_has_no_time_left() -> None:
    texts = list[str]()
    meter = Meter("fetching", 0, texts.append, iter([0, 1.0, 20.0, 40.0, 41.0]).__next__)
    meter.add(5 * MIB)
    for _ in range(3):
        meter.tick()
    meter.expect(100 * MIB)
    meter.add(MIB // 2)
    meter.tick()

    assert texts == [
        "fetching: 5 MiB, 5.0 MiB/s",
        "fetching: 5 MiB, 0.0 MiB/s",
        "fetching: 5 MiB, 0.0 MiB/s",
        "fetching: 6 of 100 MiB, 0.5 MiB/s, 3 min left",
    ]


@pytest.mark.parametrize(
    ("passing", "last"),
    [
        ([None, None, None], None),
        ([0.0, WAIT_SECONDS], 1.0),
        ([], WAIT_SECONDS + 1),
    ],
)
def test_retries_are_limited_in_number_and_duration(passing: list[float | None], last: float | None) -> None:
    pauses, texts = list[float](), list[str]()
    retries = Retries(texts.append, pauses.append)
    for seconds in passing:
        retries.pause(_failure(seconds))

    with pytest.raises(MissingError) as failed:
        retries.pause(_failure(last))

    assert (type(failed.value), failed.value.id) == (MissingError, "rate-limited")
    assert pauses == [pause if seconds is None else seconds for pause, seconds in zip(PAUSES, passing, strict=False)]
    assert len(texts) == len(passing)
    retries.progressed()
    retries.pause(_failure(None))


def _failure(seconds: float | None) -> TransientError:
    failure = TransientError("it fails", id="rate-limited")
    failure.after = seconds
    return failure
