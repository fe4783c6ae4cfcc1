"""The events and the result of a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from labctl.model.errors import LabError

State = Literal["started", "progress", "done", "failed"]


@dataclass(frozen=True, slots=True)
class HostsEntry:
    """The state of a lab's lines in the hosts file, and what the user has to do if labctl may not write it."""

    state: Literal["written", "pending", "not needed"]
    note: str = ""
    """Why it is pending, and what to do."""
    lines: tuple[str, ...] = ()
    """The lines to add to the file, or to delete."""
    commands: tuple[str, ...] = ()
    """Shell commands that do it."""


NO_HOSTS = HostsEntry("not needed")


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a step. `changed` is set when the step is done, `seconds` also when it failed."""

    step: str
    state: State
    text: str = ""
    changed: bool | None = None
    seconds: float | None = None
    hosts: HostsEntry | None = None
    """Set when a step that manages the hosts file is done."""


Emit = Callable[[Event], None]
Progress = Callable[[str], None]
"""Reports progress of the running step from code below the plan, as a line of text."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    changed: bool
    seconds: float
    urls: tuple[str, ...] = ()
    hosts: HostsEntry = NO_HOSTS
    error: LabError | None = None
    lab: str | None = None
    """The lab's name, if the user had to give it."""
    next_url: str = ""
    """The URL to suggest, if it is among `urls`; else their first."""

    @property
    def ok(self) -> bool:
        """Return whether the run completed."""
        return self.error is None


class Watcher(Protocol):
    """Shows a run: each event, and last the result."""

    def emit(self, event: Event) -> None:
        """Show an event."""

    def result(self, result: Result) -> None:
        """Show how the run ended."""


Watching = AbstractContextManager[Watcher]
"""Opens a watcher for one run, and restores the terminal afterwards."""
