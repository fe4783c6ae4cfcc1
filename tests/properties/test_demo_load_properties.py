"""The report and the chart of a client that sends requests continuously, for any responses."""

from __future__ import annotations

from fakes import load_report
from hypothesis import given
from hypothesis import strategies as st

from labctl.host import http_load
from labctl.host.http_load import Sample
from labctl.host.http_probe import ProbeResult
from labctl.model.traffic import ASCII_BARS, BARS, chart

ANSWERS = [ProbeResult(200, "my-app-1"), ProbeResult(None, failure="no answer: timed out"), ProbeResult(503)]
SAMPLES = st.lists(st.builds(Sample, st.floats(min_value=0, max_value=30), st.sampled_from(ANSWERS)), max_size=60)


@given(samples=SAMPLES, began=st.floats(0, 15), length=st.floats(0, 15))
def test_the_numbers_of_a_report_are_consistent(samples: list[Sample], began: float, length: float) -> None:
    report = http_load.report("my-app.local", samples, began, began + length, None)

    assert sum(report["per_second"]) == report["answers"]
    assert report["answers"] + report["failures"] <= len(samples)
    assert 0 <= report["gap"] <= report["seconds"] + 0.01
    assert length - 1e-9 <= len(report["per_second"]) <= length + 1
    # The longest gap is at least that of evenly spaced answers.
    assert report["gap"] >= length / (report["answers"] + 1) - 0.01


@given(
    per_second=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    first_command=st.one_of(st.none(), st.floats(0, 60)),
    bars=st.sampled_from([BARS, ASCII_BARS]),
)
def test_a_chart_has_a_bar_for_each_whole_second(per_second: list[int], first_command: float | None, bars: str) -> None:
    shown, *mark = chart(load_report(per_second, first_command), bars)

    assert len(shown) == len(per_second)
    assert [bar == " " for bar in shown] == [count == 0 for count in per_second]
    heights = [bars.index(bar) for bar in shown]
    ranked = sorted(zip(per_second, heights, strict=True))
    assert [height for _, height in ranked] == sorted(heights)
    assert (mark == []) is (first_command is None)
    if first_command is not None:
        assert mark[0].index("^") == int(first_command)
