"""Checks and their findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from labctl.context import Context
from labctl.host.machine import Machine


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    NOT_RELEVANT = "not relevant"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check observed, with the values, and how to fix a problem."""

    state: State
    observation: str
    fix: str = ""
    cause: str = ""
    """A stable id, if there is a more specific one than the check's."""


def ok(observation: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(State.OK, observation)


def warning(observation: str, fix: str, cause: str = "") -> Finding:
    """Return a finding that does not stop `up`, but may cause trouble later."""
    return Finding(State.WARNING, observation, fix, cause)


def broken(observation: str, fix: str, cause: str = "") -> Finding:
    """Return a finding that keeps the lab from working."""
    return Finding(State.BROKEN, observation, fix, cause)


def not_relevant(reason: str) -> Finding:
    """Return a finding that the check does not apply to the lab or to this machine."""
    return Finding(State.NOT_RELEVANT, reason)


Examination = Callable[[Context, Machine], Finding]
Repair = Callable[[Context, Machine], None]
Condition = Callable[[Context], str]
"""Returns why a check does not apply to a lab; empty if it does."""


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table: a subject, the function that looks at it, and the consequences."""

    id: str
    """Stable, for scripts."""
    why: str
    """Why it matters."""
    run: Examination
    conditions: tuple[Condition, ...] = ()
    blocks_up: str = ""
    """The id of the error with which `up` stops if this is broken; empty if `up` skips the check."""
    repair: Repair | None = None
    """Fixes what was found, without the risk of harm."""

    def examine(self, context: Context, machine: Machine) -> Finding:
        """Return what the check finds for this lab on this machine."""
        reasons = (condition(context) for condition in self.conditions)
        reason = next(filter(None, reasons), "")
        return not_relevant(reason) if reason else self.run(context, machine)
