"""Translate the exception that ended a command into the error that people and scripts see."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path
from typing import NoReturn

from labctl.host import paths
from labctl.host.log import logging_to, write
from labctl.model.errors import (
    BugError,
    InterruptedByUserError,
    LabError,
    MissingError,
    Terminated,
    TerminatedError,
    UsageError,
)
from labctl.model.hints import with_lab_name

_FULL = ("disk-full", "Free disk space there (`df -h` shows which disk is full), and run the same command again.")
_FORBIDDEN = ("not-permitted", "Let the user who runs labctl access the file and the folders above it.")
KNOWN = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: ("file-too-large", "Raise the limit on the size of files: `ulimit -f unlimited`."),
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: ("read-only", "Set XDG_STATE_HOME and XDG_CACHE_HOME to folders on a writable disk."),
    errno.EMFILE: ("too-many-files", "Raise the limit on open files: `ulimit -n 4096`."),
    errno.ENFILE: ("too-many-files", "Raise the limit on open files: `sysctl fs.file-max`."),
}
"""The id and the hint for known errors of the operating system, by errno."""


def as_error(
    reason: BaseException, log: Path | None = None, *, lab: str | None = None, verbose: bool = False
) -> LabError:
    """Return the error to show for an exception.

    If the user named the lab, the commands in its hint do too. An OSError is reported as an error of the operating
    system, and invalid text as such; any other exception is a bug. The traceback of these goes to the log, by default
    the common one, and, if verbose, into the error's details.
    """
    if isinstance(reason, LabError):
        # The name itself may be what is invalid.
        reason.hint = reason.hint if reason.id == "config-invalid" else with_lab_name(reason.hint, lab)
        return reason
    if isinstance(reason, Terminated):
        return TerminatedError("terminated", id="terminated", hint="Run the same command again to resume.")
    if isinstance(reason, KeyboardInterrupt):
        return InterruptedByUserError("interrupted", id="interrupted", hint="Run the same command again to resume.")
    lines = "".join(traceback.format_exception(reason))
    logged = _write_to_log(log, lines)
    details = tuple(lines.splitlines()) if verbose else ()
    if isinstance(reason, OSError):
        return _system_error(reason, details)
    if isinstance(reason, UnicodeError):
        return _encoding_error(reason, details)
    where = f"; the traceback is in {logged}" if logged else ""
    return BugError(
        f"a bug in labctl: {type(reason).__name__}: {reason}{where}",
        id="bug",
        hint="`-v` shows the traceback. Please report it with the output of `labctl logs --export DIR`.",
        details=details,
    )


def common_log() -> Path:
    """Return the log of commands without a lab. No lab's folder can have its name: names of labs have no dot."""
    return paths.state_home() / "labctl.log"


def terminate(_number: int, _frame: object) -> NoReturn:
    """Handle SIGTERM: shut down cleanly, as after Ctrl-C."""
    raise Terminated("terminated")


def _system_error(error: OSError, details: tuple[str, ...]) -> MissingError:
    """Return the error for what the operating system refused, with the files concerned."""
    files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = error.strerror or str(error) or type(error).__name__
    identity, hint = KNOWN.get(error.errno or 0, ("system-refused", "`-v` shows where it happened."))
    if not files and error.errno == errno.ENOENT and not _has_current_folder():
        files, identity, hint = ["the current folder"], "folder-gone", "Change to a folder that exists: `cd`."
    return MissingError(
        ": ".join([" and ".join(files), reason] if files else [reason]), id=identity, hint=hint, details=details
    )


def _encoding_error(error: UnicodeError, details: tuple[str, ...]) -> UsageError:
    """Return the error for bytes that are not text, such as in file names and arguments."""
    place = ""
    if isinstance(error, UnicodeEncodeError | UnicodeDecodeError):
        place = f"{error.object[max(error.start - 40, 0) : error.end + 40]!r}: "
    return UsageError(
        f"{place}not UTF-8 text: {error}",
        id="not-text",
        hint="Use names and files in UTF-8.",
        details=details,
    )


def _has_current_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _write_to_log(log: Path | None, text: str) -> Path | None:
    """Log the text and return the log; None if it cannot be written, which must not hide the error."""
    try:
        log = log or common_log()
        paths.private_folder(log.parent)
        with logging_to(log):
            write(os.getpid(), text)
    except LabError:
        return None
    return log
