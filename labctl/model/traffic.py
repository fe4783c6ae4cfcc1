"""The figures of a demo's traffic in words, and as a chart."""

from __future__ import annotations

import math

from labctl.model.reports import LoadReport

BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
FULL_RATE = 10
"""Good answers a second that make a bar of full height, if no second has more."""


def chart(load: LoadReport, bars: str = BARS) -> list[str]:
    """Return a line with a bar for each whole second, and below it a mark where the first command was run."""
    whole = load["per_second"][: int(load["seconds"])] or load["per_second"]
    most = max(FULL_RATE, *whole)
    line = "".join(bars[math.ceil(count / most * (len(bars) - 1))] for count in whole)
    if load["first_command"] is None:
        return [line]
    return [line, " " * int(load["first_command"]) + "^ the first command"]


def load_text(load: LoadReport) -> str:
    """Return the figures in one line."""
    failures = f"{load['failures']} failure{'s' * (load['failures'] != 1)}"
    return (
        f"http://{load['hostname']}: {load['answers']} good answers and {failures} in {load['seconds']:.1f} s, "
        f"the longest gap {load['gap']:.1f} s"
    )
