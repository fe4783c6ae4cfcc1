"""Show the results of `labctl doctor`: a line for each check, then the problems and their fixes."""

from __future__ import annotations

from typing import TextIO

from labctl.model.reports import CheckReport, DoctorReport
from labctl.ui.screen import console, one_line

STYLES = {"ok": "green", "warning": "yellow", "broken": "red"}
NOT_RELEVANT = "not relevant"
NOT_WELL = ("broken", "warning")


def findings(report: DoctorReport, stdout: TextIO) -> None:
    """Print every check that applies, then the details of those that are not ok, broken ones first, and the verdict."""
    from rich.text import Text  # noqa: PLC0415 - see console()

    screen = console(stdout)
    checks = report["checks"]
    width = max(len(check["id"]) for check in checks)
    for check in (check for check in checks if check["state"] != NOT_RELEVANT):
        state = ("fixed" if check["fixed"] else check["state"]).ljust(max(map(len, STYLES)))
        line = Text.assemble(
            (state, STYLES[check["state"]]), "  ", check["id"].ljust(width), "  ", _text(check["seen"])
        )
        screen.print(line, soft_wrap=True)
    for reason, ids in _not_relevant(checks).items():
        screen.print(Text.assemble((f"{NOT_RELEVANT}: {', '.join(ids)}: ", "dim"), _text(reason)), soft_wrap=True)
    for state in NOT_WELL:
        for check in (check for check in checks if check["state"] == state):
            screen.print(Text.assemble("\n", (f"{state}: {check['id']}", STYLES[state])), soft_wrap=True)
            for title in ("seen", "why", "fix"):
                first, *others = str(check[title] or "").splitlines() or [""]
                screen.print(Text.assemble((f"  {title}: ", "bold"), _text(first)), soft_wrap=True)
                for other in others:
                    screen.print(Text(f"    {_text(other)}"), soft_wrap=True)
    screen.print(Text(f"\n{_verdict(report['lab'], checks)}"), soft_wrap=True)


def _not_relevant(checks: list[CheckReport]) -> dict[str, list[str]]:
    """Return the ids of the checks that do not apply to this lab, by their common reason."""
    reasons: dict[str, list[str]] = {}
    for check in checks:
        if check["state"] == NOT_RELEVANT:
            reasons.setdefault(check["seen"], []).append(check["id"])
    return reasons


def _verdict(lab: str, checks: list[CheckReport]) -> str:
    broken, warnings = (sum(check["state"] == state for check in checks) for state in NOT_WELL)
    counts = [f"{broken} broken"] * bool(broken) + [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings)
    return f"Lab {lab}: {', '.join(counts) or 'all is well'}."


def _text(value: object) -> str:
    return one_line(str(value))
