"""Running other programs: argument lists only, output kept in the log, failures with their last lines.

Every program runs in a process group of its own: a terminal's Ctrl-C reaches it once, from here, and it is waited for.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError, ProviderError
from labctl.faults import reached

LAST_LINES = 12
STOP_SECONDS = 20.0
"""How long an interrupted program may take to end in good order."""

Argument = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended: its exit code, its standard output, and the last lines of all it said."""

    code: int
    out: str
    last_lines: tuple[str, ...]


def run(
    args: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    log: Path | None = None,
    stdin: bytes | None = None,
) -> Finished:
    """Run a program to its end and return what it said; any exit code is an answer.

    `env` adds to this process's environment. Raises ProviderError when the program cannot be started or takes more
    than `timeout` seconds.
    """
    with _started(args, env, cwd, stderr=subprocess.PIPE, stdin=stdin is not None) as child:
        try:
            out, err = (stream.decode(errors="replace") for stream in child.communicate(stdin, timeout))
        except subprocess.TimeoutExpired as error:
            os.killpg(child.pid, signal.SIGKILL)
            raise ProviderError(f"`{_shown(args)}` took more than {timeout:.0f} s", id="tool-timeout") from error
    if log is not None:
        _append(log, args, child.returncode, out + err)
    return Finished(child.returncode, out, last_lines(out + err))


def stream(
    args: Sequence[Argument],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    keep_open: tuple[int, ...] = (),
) -> Finished:
    """Run a program to its end, telling `on_line` each line of both its streams as it comes.

    It inherits the file descriptors `keep_open`.
    """
    lines = []
    with _started(args, env, cwd, stderr=subprocess.STDOUT, keep_open=keep_open) as child:
        for raw in child.stdout or ():
            lines.append(raw.decode(errors="replace"))
            on_line(lines[-1].rstrip())
    output = "".join(lines)
    if log is not None:
        _append(log, args, child.returncode, output)
    return Finished(child.returncode, output, last_lines(output))


def check(
    args: Sequence[Argument],
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
        raise error(
            f"`{_shown(args)}` ended with exit code {finished.code}",
            id="tool-failed",
            hint=hint,
            details=finished.last_lines,
        )
    return finished.out


def last_lines(output: str, count: int = LAST_LINES) -> tuple[str, ...]:
    """The last non-empty lines of a tool's output."""
    return tuple([line.rstrip() for line in output.splitlines() if line.strip()][-count:])


@contextmanager
def _started(
    args: Sequence[Argument],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    *,
    stderr: int,
    stdin: bool = False,
    keep_open: tuple[int, ...] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    try:
        child = subprocess.Popen(
            [os.fspath(arg) for arg in args],
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=keep_open,
            process_group=0,
        )
    except OSError as error:
        raise ProviderError(
            f"cannot run {os.fspath(args[0])}: {error.strerror}",
            id="tool-not-started",
            hint=f"Is {os.fspath(args[0])} installed, and on PATH?",
        ) from error
    with child:
        reached(f"run.{Path(args[0]).name}")
        try:
            yield child
        except KeyboardInterrupt:
            _interrupt(child)
            raise
        child.wait()


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGINT)  # its own children hold its pipes, and would be waited for in vain
    try:
        child.communicate(timeout=STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def _shown(args: Sequence[Argument]) -> str:
    return shlex.join(os.fspath(arg) for arg in args)


def _append(log: Path, args: Sequence[Argument], code: int | None, output: str) -> None:
    end = "" if output.endswith("\n") or not output else "\n"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {_shown(args)}\n{output}{end}[exit {code}]\n")
