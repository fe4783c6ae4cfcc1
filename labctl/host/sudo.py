"""Run one program as root through sudo: without a password prompt, or with a prompt on the terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labctl.host.process import Finished, run
from labctl.model.errors import ProviderError

TIMEOUT_SECONDS = 60.0
"""The program takes milliseconds; sudo may have to query a directory service."""


def is_root() -> bool:
    """Return whether this process needs no sudo."""
    return os.geteuid() == 0


def try_run(line: Sequence[str]) -> Finished:
    """Run the program as root, if sudo lets this user do so without a prompt.

    Otherwise the exit code is not 0, and the last line has the reason.
    """
    if shutil.which("sudo") is None:
        return Finished(127, "", ("sudo is not installed",))
    try:
        return run(without_prompt(line), timeout=TIMEOUT_SECONDS)
    except ProviderError as error:
        # sudo may be waiting for a directory service that does not answer.
        late = f"sudo took more than {TIMEOUT_SECONDS:g} s"
        return Finished(-1, "", (late if error.id == "tool-timeout" else error.message,))


def without_prompt(line: Sequence[str]) -> list[str]:
    """Return the command that runs the program as root, and fails if sudo would ask for a password."""
    return ["sudo", "--non-interactive", "--", *line]


def can_prompt() -> bool:
    """Return whether labctl may let sudo ask for a password.

    sudo prompts on the terminal even if the streams are redirected, so require that stdin and stderr are terminals.
    """
    streams = (sys.stdin, sys.stderr)  # None if the process started without them
    has_terminal = all(stream is not None and stream.isatty() for stream in streams)
    return has_terminal and _is_in_foreground() and shutil.which("sudo") is not None


def _is_in_foreground() -> bool:
    """Return whether this process gets the terminal's input; reading it stops a process in the background."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False  # a terminal of another session


def prompt_and_run(line: Sequence[str], file: Path) -> bool:
    """Run the program as root after sudo's prompt, which names the file; return whether it succeeded.

    Afterwards `try_run` works as well, for as long as the machine's sudoers allow.
    """
    sys.stderr.write(
        f"Only root may write {file}. labctl does that through sudo; without the password, everything else still works.\n"
    )
    sys.stderr.flush()
    # In this process's own group: in the background, sudo could not read from the terminal.
    command = ["sudo", "--prompt", f"[sudo] password for %p, to write {file}: ", "--", *line]
    # Without `run`, which after Ctrl-C would try to kill sudo and fail: it is root's, and gets Ctrl-C itself.
    return subprocess.Popen(command, stdout=subprocess.DEVNULL).wait() == 0
