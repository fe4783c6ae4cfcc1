"""Every check of `labctl doctor`, from its table."""

from __future__ import annotations

import inspect

from generator import markdown
from labctl.doctor import CHECKS, Check


def page() -> str:
    """Return the page."""
    return markdown.page(
        "Doctor checks",
        "[`labctl doctor`](commands.md#labctl-doctor) makes these checks, in this order. `labctl up` makes those that have"
        " an error id first: it stops with exit code 3, reports all problems at once, and uses that id if there is only"
        " one.",
        *(block for check in CHECKS for block in _section(check)),
    )


def _section(check: Check) -> tuple[str, ...]:
    facts = [
        *(("Applies", _condition(each)) for each in check.only),
        *([("Stops `up` with", markdown.code(check.stops_up))] if check.stops_up else []),
        *([("`labctl doctor --fix`", markdown.sentence(_summary(check.repair)))] if check.repair else []),
    ]
    return (
        f"## {check.id}",
        f"{markdown.sentence(_summary(check.look))} Why: {check.why}.",
        "\n".join(f"- {name}: {text}" for name, text in facts),
    )


def _condition(condition: object) -> str:
    summary = _summary(condition)
    return summary[:1].lower() + summary[1:]


def _summary(function: object) -> str:
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
