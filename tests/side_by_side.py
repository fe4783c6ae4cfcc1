"""Several processes that run tests, by pytest-xdist: how they share the tests out, and how Ctrl-C ends them."""

from __future__ import annotations

import signal
from types import FrameType

import groups
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

ENDING_SECONDS = 20
"""How long a process has after Ctrl-C to destroy its labs: it ends itself after 15, and would be killed after ten."""


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist publishes no types
    """Let the tests of a group run in one process; a process that has no more gets the next group."""

    def _split_scope(self, nodeid: str) -> str:
        return groups.group(nodeid)


def let_processes_end() -> None:
    """Give every process time to destroy its labs after Ctrl-C."""
    NodeManager.EXIT_TIMEOUT = ENDING_SECONDS


def interrupt_once() -> None:
    """Let the first SIGINT end this process in good order: another follows, which must not interrupt that.

    A terminal sends one to every process, and pytest-xdist then sends one more to each.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _go_on)  # not SIG_IGN, which every program that a test starts would inherit
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def _go_on(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing about a signal."""
