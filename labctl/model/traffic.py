"""The figures of a demo's traffic in words, and as a chart."""

from __future__ import annotations

import math

from labctl.model.demo_reports import LoadReport

BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
FULL_RATE = 10
"""Good answers per second that make a bar of full height, if no second has more."""


def chart(load: LoadReport, bars: str = BARS) -> list[str]:
    """Return a line with a bar for each whole second, and below it a mark where the first command was run."""
    whole = load["per_second"][: int(load["seconds"])] or load["per_second"]
    most = max(FULL_RATE, *whole)
    line = "".join(bars[math.ceil(count / most * (len(bars) - 1))] for count in whole)
    if load["first_command"] is None:
        return [line]
    return [line, " " * int(load["first_command"]) + "^ the first command"]


def figures(load: LoadReport) -> dict[str, str]:
    """Return the good answers, the failures and the longest gap in words."""
    return {
        "answers": _count_text(load["answers"], "good answer"),
        "failures": _count_text(load["failures"], "failure"),
        "gap": f"{load['gap']:.1f} s",
    }


def load_text(load: LoadReport) -> str:
    """Return the figures in one line."""
    text = "http://{hostname}: {answers} and {failures} in {seconds:.1f} s, the longest gap {gap}"
    return text.format(**{**load, **figures(load)})


def _count_text(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
