"""Running other programs: argument lists only, output kept in the log, failures with their last lines."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError, ProviderError

LAST_LINES = 12
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended: its exit code, its standard output, and both streams' last lines."""

    code: int
    out: str
    last_lines: tuple[str, ...]


def run(
    args: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    log: Path | None = None,
    stdin: bytes | None = None,
) -> Finished:
    """Run a program to its end and return what it said; any exit code is an answer.

    `env` adds to this process's environment. An interrupt is passed on once and the program is waited
    for. Raises ProviderError when it cannot be started or takes more than `timeout` seconds.
    """
    line = [os.fspath(arg) for arg in args]
    environment = {**os.environ, **env} if env else None
    try:
        with subprocess.Popen(
            line,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # a terminal's Ctrl-C must reach the child once, from us
        ) as child:
            out, err = _communicate(child, line, stdin, timeout)
    except OSError as error:
        raise ProviderError(
            f"cannot run {line[0]}: {error.strerror or error}", id="tool-not-started", hint=f"Is {line[0]} installed?"
        ) from error
    finished = Finished(child.returncode, out, last_lines(out + err))
    if log is not None:
        _append(log, line, finished.code, out + err)
    return finished


def check(
    args: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    log: Path | None = None,
    stdin: bytes | None = None,
    error: type[LabError] = ProviderError,
    hint: str = "",
) -> str:
    """Run a program that must succeed and return its standard output; else raise `error` with its last lines."""
    finished = run(args, env=env, cwd=cwd, timeout=timeout, log=log, stdin=stdin)
    if finished.code != 0:
        shown = shlex.join(os.fspath(arg) for arg in args)
        raise error(
            f"`{shown}` ended with exit code {finished.code}", id="tool-failed", hint=hint, details=finished.last_lines
        )
    return finished.out


def last_lines(output: str, count: int = LAST_LINES) -> tuple[str, ...]:
    """The last non-empty lines of a tool's output."""
    return tuple([line.rstrip() for line in output.splitlines() if line.strip()][-count:])


def _communicate(
    child: subprocess.Popen[bytes], line: list[str], stdin: bytes | None, timeout: float | None
) -> tuple[str, str]:
    try:
        out, err = child.communicate(stdin, timeout)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.communicate()
        raise ProviderError(f"`{shlex.join(line)}` took more than {timeout:.0f} s", id="tool-timeout") from error
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        try:
            child.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
        raise
    return out.decode(errors="replace"), err.decode(errors="replace")


def _append(log: Path, line: list[str], code: int, output: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(
            f"$ {shlex.join(line)}\n{output}{'' if output.endswith(chr(10)) or not output else chr(10)}[exit {code}]\n"
        )
