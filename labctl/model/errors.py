"""Expected failures: what happened, what to do about it, and the exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command; scripts rely on them."""

    OK = 0
    BUG = 1
    USAGE = 2
    MISSING = 3
    PROVIDER = 4
    REFUSED = 5
    NOT_READY = 6
    HOSTS = 7
    BROKEN = 8
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


class LabError(Exception):
    """An expected failure: it names the object and the value, and its hint says what to do.

    `id` is stable, for scripts and searches; `details` holds further lines such as the last output
    of the tool that failed.
    """

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, message: str, *, id: str, hint: str = "", details: tuple[str, ...] = ()) -> None:  # noqa: A002 - the public word
        super().__init__(message)
        self.message = message
        self.id = id
        self.hint = hint
        self.details = details


class UsageError(LabError):
    """An option or a configuration value is wrong; nothing was done."""

    exit_code = ExitCode.USAGE


class MissingError(LabError):
    """Something the lab needs is not on this machine."""

    exit_code = ExitCode.MISSING


class ProviderError(LabError):
    """Vagrant, Docker or a hypervisor failed."""

    exit_code = ExitCode.PROVIDER


class RefusedError(LabError):
    """Kubernetes refused a request."""

    exit_code = ExitCode.REFUSED


class NotReadyError(LabError):
    """Something did not become ready in time."""

    exit_code = ExitCode.NOT_READY


class HostsError(LabError):
    """The hosts file cannot be read, is damaged, or cannot be written; it is unchanged."""

    exit_code = ExitCode.HOSTS


class BrokenError(LabError):
    """A check of a lab that exists found something broken."""

    exit_code = ExitCode.BROKEN


class OutputNotWrittenError(MissingError):
    """The answer could not be written to standard output."""


class OutputGoneError(LabError):
    """The reader of standard output has exited, as `head` does: exit silently, as SIGPIPE would make other programs."""

    exit_code = ExitCode.PIPE


class BugError(LabError):
    """An unexpected failure: a bug in labctl."""


class InterruptedByUserError(LabError):
    """The user stopped the run."""

    exit_code = ExitCode.INTERRUPTED


class TerminatedError(LabError):
    """SIGTERM stopped the run."""

    exit_code = ExitCode.TERMINATED


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, so that everything shuts down as cleanly as after Ctrl-C."""
