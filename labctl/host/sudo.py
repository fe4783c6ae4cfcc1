"""Root's rights for one program: taken through sudo without a question, or asked for on the terminal."""

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
"""For a program that does its work in milliseconds, and for a directory service that sudo may have to ask."""


def is_root() -> bool:
    """Return whether this process needs no sudo."""
    return os.geteuid() == 0


def try_run(line: Sequence[str]) -> Finished:
    """Run the program as root, if sudo lets this user do so without a question.

    Otherwise the exit code is not 0, and the last line says why.
    """
    if shutil.which("sudo") is None:
        return Finished(127, "", ("there is no sudo on PATH",))
    try:
        return run(without_question(line), timeout=TIMEOUT_SECONDS)
    except ProviderError as error:  # it takes too long: the machine's directory service does not answer
        return Finished(-1, "", (error.message,))


def without_question(line: Sequence[str]) -> list[str]:
    """Return the line that runs the program as root, or fails where sudo would ask for a password."""
    return ["sudo", "--non-interactive", "--", *line]


def can_ask() -> bool:
    """Return whether sudo can ask for a password: it asks on the terminal, wherever the streams lead."""
    streams = (sys.stdin, sys.stderr)  # None where the process began without them
    has_terminal = all(stream is not None and stream.isatty() for stream in streams)
    return has_terminal and _is_in_foreground() and shutil.which("sudo") is not None


def _is_in_foreground() -> bool:
    """Return whether this process gets the terminal's input; reading it stops a process in the background."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False  # a terminal of another session


def ask_and_run(line: Sequence[str], file: Path) -> bool:
    """Run the program as root after the question that sudo asks, which says for which file; True if it succeeded.

    For a while afterwards, as the machine's sudoers say, `try_run` works as well.
    """
    sys.stderr.write(
        f"Only root may write {file}. labctl does that through sudo; without the password, everything else still works.\n"
    )
    sys.stderr.flush()
    # In this process's own group: in the background, sudo could not read from the terminal.
    command = ["sudo", "--prompt", f"[sudo] password for %p, to write {file}: ", "--", *line]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
