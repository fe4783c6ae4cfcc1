"""The report of a client's requests, and its chart."""

from __future__ import annotations

from fakes import load_report

from labctl.host import http_load
from labctl.host.http_load import Sample
from labctl.host.http_probe import ProbeResult
from labctl.model.traffic import ASCII_BARS, BARS, chart, load_text

GOOD, BAD = ProbeResult(200, "my-app-1"), ProbeResult(None, failure="no answer: timed out")
HOST = "my-app.local"


def test_the_gap_is_the_longest_time_between_two_good_responses() -> None:
    good = [Sample(at, GOOD) for at in (10.0, 10.4, 12.5, 12.6)]
    bad = [Sample(11.0, BAD), Sample(11.5, ProbeResult(503))]

    assert http_load.report(HOST, [*bad, *reversed(good)], 10.0, 12.6, 10.45) == {
        "hostname": HOST,
        "seconds": 2.6,
        "answers": 4,
        "failures": 2,
        "gap": 2.1,
        "per_second": [2, 0, 2],
        "first_command": 0.45,
    }


def test_an_app_that_never_recovered_has_a_gap_until_the_end() -> None:
    report = http_load.report(HOST, [Sample(0.0, GOOD), Sample(1.0, GOOD), Sample(4.0, BAD)], 0.0, 9.0, None)

    assert (report["gap"], report["first_command"]) == (8.0, None)


def test_responses_outside_of_the_measured_time_are_ignored() -> None:
    report = http_load.report(HOST, [Sample(at, GOOD) for at in (0.0, 1.0, 2.0, 9.0)], 1.0, 2.0, None)

    assert (report["answers"], report["per_second"]) == (2, [2])


def test_a_chart_shows_an_outage_and_the_command_that_caused_it() -> None:
    report = load_report([10, 10, 10, 1, 0, 0, 5, 10, 3], 3.2)
    report["seconds"] = 8.4

    assert chart(report) == ["███▁  ▄█", "   ^ the first command"]
    assert chart(report, ASCII_BARS) == ["@@@.  =@", "   ^ the first command"]
    assert load_text(report) == "http://my-app.local: 49 good answers and 1 failure in 8.4 s, the longest gap 2.0 s"


def test_the_bars_have_nine_heights() -> None:
    assert len(BARS) == len(set(BARS)) == len(ASCII_BARS) == len(set(ASCII_BARS)) == 9
    assert ASCII_BARS.isascii()
