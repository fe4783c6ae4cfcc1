"""Run other programs: argument lists only, all output in the log, known failures explained in the user's terms.

Every program has its own process group: a terminal's Ctrl-C reaches it once, through labctl, which waits for its exit.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from labctl.host import known_failures, log
from labctl.host.failpoints import failpoint
from labctl.host.tool_environment import environment
from labctl.model.errors import LabError, ProviderError

LAST_LINES = 12
STOP_SECONDS = 20.0
"""How long an interrupted program may take to exit before it is killed."""
KILL_SECONDS = 5.0
"""How long a killed program and its children may take to exit."""
WATCH_SECONDS = 15.0
"""How often to check whether what a program waits for is still possible."""

Argument = str | os.PathLike[str]
E = TypeVar("E", bound=LabError)


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a program: exit code, standard output, and the last lines of its standard output and error."""

    code: int
    out: str
    last_lines: tuple[str, ...]


class Child(subprocess.Popen[bytes]):
    """A program that labctl started."""

    is_left = False
    """Whether this user cannot end it, or a child of it, so that waiting might last forever."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipes and, unless the program is left to itself, wait for its exit."""
        if not self.is_left:
            super().__exit__(kind, error, trace)
            return
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                pipe.close()
        threading.Thread(target=self.wait, daemon=True).start()


def run(
    args: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    stdin: bytes | None = None,
) -> Finished:
    """Run a program and return its result, whatever its exit code.

    `env` adds to what the program gets of this process's environment. Raises ProviderError if the program cannot be
    started or takes more than `timeout` seconds.
    """
    code, out, err = _run(args, env, cwd, timeout, stdin)
    return Finished(code, out, last_lines(out + err))


def stream(
    args: Sequence[Argument],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: tuple[int, ...] = (),
    watch: Callable[[], object] | None = None,
) -> Finished:
    """Run a program, pass each line of its standard output and error to `on_line` at once, and return the result.

    The program inherits the file descriptors `keep_open`. `watch` is called every WATCH_SECONDS meanwhile: a LabError
    that it raises kills the program, and is raised here.
    """
    lines = []
    started = _start(args, env, cwd, stderr=subprocess.STDOUT, keep_open=keep_open)
    with started as child, _watching(child, watch):
        for raw in child.stdout or ():
            lines.append(raw.decode(errors="replace"))
            log.write(child.pid, lines[-1])
            on_line(lines[-1].rstrip())
    output = "".join(lines)
    return Finished(child.returncode, output, last_lines(output))


def feed(
    args: Sequence[Argument],
    write: Callable[[IO[bytes]], None],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float,
    started: Callable[[Callable[[], None]], object] | None = None,
) -> Finished:
    """Run a program with the standard input that `write` writes, and return its result.

    An error of `write` kills the program. `started` receives a function with which another thread can kill it.
    Raises ProviderError as `run` does.
    """
    with _start(args, env, None, stderr=subprocess.STDOUT, stdin=True) as child:
        if started:
            started(partial(_kill, child))
        late = threading.Event()
        timer = threading.Timer(timeout, _kill_late, (child, late))
        chunks: list[bytes] = []
        reader = threading.Thread(target=lambda: chunks.extend(child.stdout or ()))
        for thread in (timer, reader):
            thread.start()
        try:
            _write_all(child, write)
            reader.join()
        except BaseException:
            _signal(child, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
    output = b"".join(chunks).decode(errors="replace")
    log.write(child.pid, output)
    if late.is_set():
        raise failure(
            ProviderError(f"`{_command_text(args)}` took more than {timeout:.0f} s", id="tool-timeout"), output
        )
    return Finished(child.returncode, output, last_lines(output))


def check(
    args: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    stdin: bytes | None = None,
    error: type[LabError] = ProviderError,
    hint: str = "",
) -> str:
    """Run a program that must succeed, and return its standard output; else raise `error`, as `failure` returns it."""
    code, out, err = _run(args, env, cwd, timeout, stdin)
    if code != 0:
        what = f"`{_command_text(args)}` ended with exit code {code}"
        raise failure(error(what, id="tool-failed", hint=hint), out + err)
    return out


def failure(error: E, output: str) -> E:
    """Return the error for a program's failure, with the last lines of its output.

    A known failure has its own id, message and hint; any other keeps those of `error`, with the log's path in the hint.
    """
    place = f"The whole output is in {path}." if (path := log.location()) else ""
    hint = " ".join(part for part in (error.hint, place) if part)
    unknown = type(error)(error.message, id=error.id, hint=hint, details=last_lines(output))
    return known_failures.recognise(unknown, output)


def last_lines(output: str, count: int = LAST_LINES) -> tuple[str, ...]:
    """Return the last non-empty lines of a tool's output."""
    return tuple([line.rstrip() for line in output.splitlines() if line.strip()][-count:])


def _run(
    args: Sequence[Argument],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    timeout: float | None,
    stdin: bytes | None,
) -> tuple[int, str, str]:
    """Run a program, and return its exit code, standard output and standard error."""
    with _start(args, env, cwd, stderr=subprocess.PIPE, stdin=stdin is not None) as child:
        try:
            out, err = _read_and_log(child, stdin, timeout)
        except subprocess.TimeoutExpired as error:
            _signal(child, signal.SIGKILL)
            late = ProviderError(f"`{_command_text(args)}` took more than {timeout:.0f} s", id="tool-timeout")
            raise failure(late, _rest(child)) from error
    return child.returncode, out, err


def _write_all(child: Child, write: Callable[[IO[bytes]], None]) -> None:
    """Write a program's standard input, and close it. If writing fails, kill the program before it can see the end."""
    assert child.stdin is not None  # noqa: S101 - it was started with a pipe
    try:
        write(child.stdin)
        child.stdin.close()
    except BrokenPipeError:
        pass  # the program exited early, and its output has the reason
    except BaseException:
        _signal(child, signal.SIGKILL)
        raise
    finally:
        with suppress(BrokenPipeError):  # the rest of the buffer has no reader
            child.stdin.close()


def _kill_late(child: Child, late: threading.Event) -> None:
    late.set()
    _signal(child, signal.SIGKILL)


def _read_and_log(child: Child, stdin: bytes | None = None, timeout: float | None = None) -> tuple[str, str]:
    """Read and log both streams of a program until it exits."""
    out, err = ((content or b"").decode(errors="replace") for content in child.communicate(stdin, timeout))
    log.write(child.pid, out)
    log.write(child.pid, err)
    return out, err


@contextmanager
def _start(
    args: Sequence[Argument],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    *,
    stderr: int,
    stdin: bool = False,
    keep_open: tuple[int, ...] = (),
) -> Iterator[Child]:
    with _deferred_signals() as release:
        child = _spawn(args, env, cwd, stderr=stderr, stdin=stdin, keep_open=keep_open)
        started = time.monotonic()
        try:
            with child:
                try:  # a terminal's interrupt does not reach the program, which has its own process group
                    release()
                    log.write(child.pid, f"$ {_command_text(args)}")
                    failpoint(f"run.{Path(args[0]).name}")
                    yield child
                except KeyboardInterrupt:
                    _interrupt(child)
                    raise
                child.wait()
        finally:
            log.write(child.pid, f"exit code {child.returncode} after {time.monotonic() - started:.1f} s")


def _spawn(
    args: Sequence[Argument],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    *,
    stderr: int,
    stdin: bool,
    keep_open: tuple[int, ...],
) -> Child:
    try:
        return Child(
            [os.fspath(arg) for arg in args],
            env=environment(Path(args[0]).name, env or {}),
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


@contextmanager
def _deferred_signals() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C and SIGTERM until the yielded function is called.

    An exception that they raise while a program starts would leave it running, since no caller has it yet.
    """
    arrived: list[int] = []
    handlers: dict[signal.Signals, Any] = {}

    def release() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        if arrived:
            signal.raise_signal(arrived.pop())

    try:
        if threading.current_thread() is threading.main_thread():  # no other thread handles signals
            for number in (signal.SIGTERM, signal.SIGINT):
                handlers[number] = signal.signal(number, lambda number, _frame: arrived.append(number))
        yield release
    finally:
        release()


@contextmanager
def _watching(child: Child, watch: Callable[[], object] | None) -> Iterator[None]:
    """Kill the program if `watch` raises a LabError, and raise that error."""
    ended, errors = threading.Event(), list[LabError]()

    def watching(look: Callable[[], object]) -> None:
        while not ended.wait(WATCH_SECONDS):
            try:
                look()
            except LabError as error:
                errors.append(error)
                _signal(child, signal.SIGKILL)
                return

    threads = [threading.Thread(target=watching, args=(watch,))] if watch else []
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _interrupt(child: Child) -> None:
    _signal(child, signal.SIGINT)
    try:
        _read_and_log(child, timeout=STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _signal(child, signal.SIGKILL)
        _rest(child)


def _rest(child: Child) -> str:
    """Return the rest of a killed program's output. What runs as root, below sudo, still lives: leave it to itself."""
    try:
        return "".join(_read_and_log(child, timeout=KILL_SECONDS))
    except subprocess.TimeoutExpired:
        child.is_left = True
        return ""


def _signal(child: Child, number: signal.Signals) -> None:
    """Signal a program and its children, since waiting would not end while children hold its pipes open."""
    # It has just exited, or it is root's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _kill(child: Child) -> None:
    """Kill a program of another thread, unless that has seen its exit: then the pid may be another process's."""
    if child.returncode is None:
        _signal(child, signal.SIGKILL)


def _command_text(args: Sequence[Argument]) -> str:
    return shlex.join(os.fspath(arg) for arg in args)
