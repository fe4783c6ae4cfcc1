"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from labctl.context import Context
from labctl.host.machine import Machine


class State(StrEnum):
    """How it stands with one subject."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    NOT_RELEVANT = "not relevant"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw, with the values, and what to type or do where it is not well."""

    state: State
    seen: str
    fix: str = ""
    cause: str = ""
    """A stable id, where there is a more exact one than the check's."""


def ok(observation: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(State.OK, observation)


def warning(observation: str, fix: str, cause: str = "") -> Finding:
    """Return a finding that does not stop `up`, but may cause trouble later."""
    return Finding(State.WARNING, observation, fix, cause)


def broken(observation: str, fix: str, cause: str = "") -> Finding:
    """Return a finding with which the lab cannot work."""
    return Finding(State.BROKEN, observation, fix, cause)


def not_relevant(reason: str) -> Finding:
    """Return that the check does not apply to the lab or to this machine."""
    return Finding(State.NOT_RELEVANT, reason)


Look = Callable[[Context, Machine], Finding]
Repair = Callable[[Context, Machine], None]
Condition = Callable[[Context], str]
"""Why a check has nothing to do with a lab; empty where it has."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table: a subject, how it is looked at, and what follows."""

    id: str
    """Stable, for scripts."""
    why: str
    """Why it matters."""
    look: Look
    only: tuple[Condition, ...] = ()
    blocks_up: str = ""
    """The id of the error that `up` begins with where this is broken; empty: `up` does not ask."""
    repair: Repair | None = None
    """Puts right what was found, and can harm nothing."""

    def examine(self, context: Context, machine: Machine) -> Finding:
        """Return what the check finds for this lab on this machine."""
        reasons = (condition(context) for condition in self.only)
        reason = next(filter(None, reasons), "")
        return not_relevant(reason) if reason else self.look(context, machine)
