"""How a command ends that did not complete: what was raised, as the error that people and scripts see."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import NoReturn

from labctl import paths
from labctl.errors import BugError, InterruptedByUserError, LabError, Terminated, TerminatedError
from labctl.log import logging_to, write


def as_error(reason: BaseException, log: Path, *, verbose: bool = False) -> LabError:
    """Return the error to show. What nobody expected is a bug; its traceback goes to the log and, if verbose, along."""
    if isinstance(reason, LabError):
        return reason
    if isinstance(reason, Terminated):
        return TerminatedError("terminated", id="terminated", hint="Run the same command again to resume.")
    if isinstance(reason, KeyboardInterrupt):
        return InterruptedByUserError("interrupted", id="interrupted", hint="Run the same command again to resume.")
    lines = "".join(traceback.format_exception(reason))
    where = f"; the traceback is in {log}" if _logged(log, lines) else ""
    return BugError(
        f"a bug in labctl: {type(reason).__name__}: {reason}{where}",
        id="bug",
        hint="`-v` shows the traceback. Report it, with what `labctl logs --export DIR` collects.",
        details=tuple(lines.splitlines()) if verbose else (),
    )


def common_log() -> Path:
    """Return the log of commands that are about no lab. No lab can have its name: labs' names have no dot."""
    return paths.state_home() / "labctl.log"


def terminate(_number: int, _frame: object) -> NoReturn:
    """Handle SIGTERM: the run ends in order, as after Ctrl-C."""
    raise Terminated("terminated")


def _logged(log: Path, text: str) -> bool:
    try:
        paths.private_folder(log.parent)
        with logging_to(log):
            write(os.getpid(), text)
    except LabError:
        return False  # the bug itself is told all the same
    return True
