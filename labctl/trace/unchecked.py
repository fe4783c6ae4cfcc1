"""Withhold the fix of a problem if a check that could refute it had no time, or its node did not respond."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.trace.problem import ProblemError
from labctl.trace.trail import Trail

FALLBACKS: Mapping[str, str] = {
    "controller-port-closed": "no-connection",
    "address-not-announced": "address-not-announced",
    "announced-twice": "announced-twice",
    "no-answer": "no-answer",
    "backend-refused": "backend-refused",
    "backend-not-http": "backend-not-http",
    "backend-too-slow": "backend-too-slow",
    "body-incomplete": "body-incomplete",
    "pods-differ": "no-time-left",
    "pod-not-reached": "pod-not-reached",
}
"""The causes that remain if no check finds another one, each with the one to report if not every check got its time."""
FIX = (
    "Trace again when this machine is less busy. If the problem remains, check the nodes and the network between them."
)


def without_refutable_fix(trail: Trail, problem: ProblemError) -> ProblemError:
    """Return the problem; if a check that could have explained it had no result, say so in place of its fix."""
    if not trail.unchecked or not _is_fallback(problem):
        return problem
    text = f"{problem.text}; not checked, without a response in time: {', '.join(sorted(trail.unchecked))}"
    cause = FALLBACKS[problem.cause]
    return ProblemError(cause, text, problem.evidence, fix=FIX, commands=(), state=problem.state)


def _is_fallback(problem: ProblemError) -> bool:
    """Return whether other checks could refute the problem. The status with which an app answers is certain."""
    if problem.cause != "pods-differ":
        return problem.cause in FALLBACKS
    return any(each["status"] is None or "failure" in each for each in problem.evidence["pods"])
