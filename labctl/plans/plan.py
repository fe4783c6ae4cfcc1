"""The heart: a plan is a tuple of idempotent steps, carried out in order and told of in events."""

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
    """How a step ended: whether it changed anything, and what there is to say about it."""

    changed: bool
    text: str = ""
    hosts: HostsEntry | None = None
    """Set by a step that looks after the hosts file."""


@dataclass(frozen=True, slots=True)
class Step(Generic[C]):
    """One idempotent act: it looks, compares, acts only where needed, and says whether it changed anything."""

    name: str
    does: str
    """What it does, for people who ask before they let it."""
    run: Callable[[C, Progress], Outcome]
    inside: bool = True
    """Whether it happens in the lab's network; before that there may be none."""
    ask: Callable[[C], None] | None = None
    """Asks the user for what it needs, before the first step: progress takes the terminal then."""


Plan = tuple[Step[C], ...]


def execute(plan: Plan[C], context: C, emit: Emit, clock: Callable[[], float] = time.monotonic) -> bool:
    """Carry out the steps in order; True if one of them changed something.

    A step that fails is told of as failed, and its error ends the run; what was done stays done.
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
    """Return the steps from `first` on, or `only` that one. Raises UsageError for both, and for a name no step has."""
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


def described(plan: Plan[C]) -> list[StepEntry]:
    """Return what each step would do."""
    return [{"step": step.name, "does": step.does} for step in plan]


class StepProgress:
    """What a step says while it runs, once: steps that wait say the same at every look."""

    def __init__(self, step: str, emit: Emit) -> None:
        self._step = step
        self._emit = emit
        self._last = ""

    def __call__(self, text: str) -> None:
        """Tell of the text, unless it is the last one again."""
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
