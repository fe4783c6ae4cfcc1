"""A table of checks for everything on this machine that can keep a lab from coming up or staying up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labctl.context import Context
from labctl.doctor.checks import CHECKS
from labctl.doctor.finding import Check, Finding, State
from labctl.host.machine import Machine
from labctl.model.errors import LabError
from labctl.model.reports import DoctorReport

__all__ = [
    "CHECKS",
    "Check",
    "Examined",
    "Finding",
    "Machine",
    "State",
    "examine",
    "repair",
    "report",
]

PROBLEM_STATES = (State.WARNING, State.BROKEN)


@dataclass(frozen=True, slots=True)
class Examined:
    """A check, its finding, and whether the problem was fixed."""

    check: Check
    finding: Finding
    fixed: bool = False


def examine(context: Context, machine: Machine, checks: Sequence[Check] = CHECKS) -> list[Examined]:
    """Run every check in order, without changing anything; a missing tool is a finding."""
    return [Examined(check, check.examine(context, machine)) for check in checks]


def repair(context: Context, machine: Machine, checks: Sequence[Check] = CHECKS) -> list[Examined]:
    """Run every check, apply the safe repairs, and run the repaired checks again."""
    return [_repair(each, context, machine) for each in examine(context, machine, checks)]


def report(context: Context, examined: Sequence[Examined]) -> DoctorReport:
    """Return the report of `labctl doctor`."""
    return {
        "version": 1,
        "lab": context.lab.name,
        "ok": not any(each.finding.state is State.BROKEN for each in examined),
        "checks": [
            {
                "id": each.check.id,
                "state": each.finding.state.value,
                "cause": each.finding.cause or None,
                "seen": each.finding.observation,
                "why": each.check.why,
                "fix": each.finding.fix or None,
                "fixed": each.fixed,
            }
            for each in examined
        ],
    }


def _repair(examined: Examined, context: Context, machine: Machine) -> Examined:
    check = examined.check
    if check.repair is None or examined.finding.state not in PROBLEM_STATES:
        return examined
    try:
        check.repair(context, machine)
    except LabError as error:
        finding = examined.finding
        return replace(
            examined, finding=replace(finding, observation=f"{finding.observation}; the repair failed: {error.message}")
        )
    finding = check.examine(context, machine)
    return Examined(check, finding, fixed=finding.state not in PROBLEM_STATES)
