"""What shows a demo while it is played; the command line passes one in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from labctl.model.errors import LabError
from labctl.model.reports import ExpectationReport, LoadReport


class Stage(Protocol):
    """Shows what happens in a demo, on a terminal and in a recording."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables with which programs show colours, if this stage has any."""

    def hidden(self, *, hide: bool) -> AbstractContextManager[None]:
        """Leave out of the recording what is shown meanwhile, if `hide` is set."""

    def scene(self, number: int, count: int, title: str, say: str | None) -> None:
        """Show that a scene begins."""

    def command(self, line: str, read: str | None) -> None:
        """Show that a command is run, and its standard input if it has one."""

    def output(self, line: str) -> None:
        """Show a line of a command's output."""

    def expectation(self, report: ExpectationReport) -> None:
        """Show what was expected and what was measured."""

    def load(self, load: LoadReport) -> None:
        """Show the figures of a scene's traffic."""

    def clean_up(self) -> None:
        """Show that cleaning up begins."""

    def error(self, error: LabError) -> None:
        """Show the error that ends the demo."""

    def end(self) -> None:
        """Leave time to read what was shown last."""

    def recorded(self, paths: Sequence[str]) -> None:
        """Show which files were written."""

    def wait_for_enter(self) -> float:
        """Wait for the user to press Enter; return for how many seconds."""
