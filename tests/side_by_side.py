"""Scheduling of tests on several processes with pytest-xdist, and their shutdown after Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

import groups
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

ENDING_SECONDS = 20
"""Time that a process has after Ctrl-C to destroy its labs, which takes 15 s; pytest-xdist's default is ten."""


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist publishes no types
    """Runs the tests of a group in one process; a process that has finished gets the next group."""

    def _split_scope(self, nodeid: str) -> str:
        return groups.group(nodeid)


def extend_exit_timeout() -> None:
    """Raise pytest-xdist's time limit so that every process can destroy its labs after Ctrl-C."""
    NodeManager.EXIT_TIMEOUT = ENDING_SECONDS


def interrupt_once() -> None:
    """Let the first SIGINT shut this process down cleanly, and ignore the ones after it.

    A terminal sends one SIGINT to every process, and pytest-xdist then sends another one to each.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _ignore)  # not SIG_IGN, which children would inherit
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Ignore a signal."""
