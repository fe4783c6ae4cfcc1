"""Run a plan: a tuple of idempotent steps, run in order and reported as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from labctl.host.failpoints import failpoint
from labctl.model.errors import UsageError
from labctl.model.events import Emit, Event, HostsEntry, Progress
from labctl.model.reports import StepEntry

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step's outcome: whether it changed anything, and its message."""

    changed: bool
    text: str = ""
    hosts: HostsEntry | None = None
    """Set by a step that changes the hosts file."""


@dataclass(frozen=True, slots=True)
class Step(Generic[C]):
    """An idempotent step: it checks, acts only if needed, and returns whether it changed anything."""

    name: str
    does: str
    """What it does, as shown by `--dry-run`."""
    run: Callable[[C, Progress], Outcome]
    inside: bool = True
    """Whether it runs in the lab's network, which earlier steps may create."""
    ask: Callable[[C], None] | None = None
    """Prompts the user for what the step needs, before the first step: later, progress uses the terminal."""


Plan = tuple[Step[C], ...]


def execute(plan: Plan[C], context: C, emit: Emit, clock: Callable[[], float] = time.monotonic) -> bool:
    """Run the steps in order; return whether one of them changed something.

    A failed step is reported, and its error ends the run; completed steps are kept.
    """
    changed = False
    for step in plan:
        with _reporting(step.name, emit, clock) as started:
            failpoint(f"{step.name}.begin")
            outcome = step.run(context, StepProgress(step.name, emit))
            failpoint(f"{step.name}.end")
            emit(Event(step.name, "done", outcome.text, outcome.changed, clock() - started, outcome.hosts))
        changed = changed or outcome.changed
    return changed


def select(plan: Plan[C], first: str | None, only: str | None) -> Plan[C]:
    """Return the steps from `first` on, or `only` that one. Raises UsageError for both, and for an unknown step."""
    names = [step.name for step in plan]
    for name in (first, only):
        if name is not None and name not in names:
            raise UsageError(f"there is no step {name}", id="step-unknown", hint=f"Steps: {', '.join(names)}.")
    if first is not None and only is not None:
        raise UsageError(
            f"--from {first} and --only {only} exclude each other", id="steps-contradict", hint="Leave one of them out."
        )
    if only is not None:
        return tuple(step for step in plan if step.name == only)
    return plan[names.index(first) if first else 0 :]


def describe(plan: Plan[C]) -> list[StepEntry]:
    """Return what each step would do."""
    return [{"step": step.name, "does": step.does} for step in plan]


class StepProgress:
    """Reports a step's progress, without repeating the same text at every check."""

    def __init__(self, step: str, emit: Emit) -> None:
        self._step = step
        self._emit = emit
        self._last = ""

    def __call__(self, text: str) -> None:
        """Report the text, unless it is the same as the last one."""
        if text != self._last:
            self._emit(Event(self._step, "progress", text))
            failpoint(f"{self._step}.progress")
        self._last = text


@contextmanager
def _reporting(step: str, emit: Emit, clock: Callable[[], float]) -> Iterator[float]:
    emit(Event(step, "started"))
    started = clock()
    try:
        yield started
    except BaseException as error:
        emit(Event(step, "failed", str(error) or "interrupted", seconds=clock() - started))
        raise
