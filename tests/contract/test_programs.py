"""Real programs: their output, their exit codes, and their end when a run is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import IO, Any, NoReturn

import pytest

from labctl.host import log, process
from labctl.host.process import check, feed, run, stream
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError, ProviderError


def test_the_last_lines_are_from_both_streams() -> None:
    finished = run(["sh", "-c", "echo out; echo err >&2; exit 3"])

    assert (finished.code, finished.out, finished.last_lines) == (3, "out\n", ("out", "err"))


def test_a_program_gets_a_clean_environment_and_the_added_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAGRANT_CWD", "/elsewhere")
    monkeypatch.setenv("HOME", "/home/user")

    output = check(["sh", "-c", 'echo "$HOME $ADDED $LC_ALL $VAGRANT_CWD"'], env={"ADDED": "added"})

    assert output == "/home/user added C.UTF-8 \n"


def test_a_program_reads_the_given_input_or_nothing() -> None:
    assert check(["cat"], stdin=b"given") == "given"
    assert check(["cat"]) == ""


def test_a_program_may_exit_before_it_has_read_all_input() -> None:
    chunk = b"x" * (1 << 20)

    def write(file: IO[bytes]) -> None:
        for _ in range(4):
            file.write(chunk)

    assert feed(["wc", "-c"], write, timeout=10).out.split() == [str(4 << 20)]
    early = feed(["sh", "-c", "echo full; exit 3"], write, timeout=10)
    assert (early.code, early.last_lines) == (3, ("full",))
    with pytest.raises(ProviderError, match=r"\b1 s") as raised:
        feed(["sleep", "60"], write, timeout=1)
    assert raised.value.id == "tool-timeout"


def test_a_program_whose_input_fails_is_killed_and_sees_no_end_of_input(tmp_path: Path) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"a part of it")
        raise ZeroDivisionError

    for program in ("sleep 60", f"cat && touch {tmp_path}/whole"):
        with pytest.raises(ZeroDivisionError):
            feed(["sh", "-c", program], write, timeout=30)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_input_is_raised_even_if_the_program_has_exited() -> None:
    def write(file: IO[bytes]) -> None:
        with suppress(BrokenPipeError):
            while True:
                file.write(b"more")
                file.flush()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        feed(["true"], write, timeout=30)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("act", "error"),
    [(lambda line: run(line, timeout=0.1), ProviderError), (lambda line: stream(line, _interrupt), KeyboardInterrupt)],
    ids=["too late", "interrupted"],
)
def test_a_program_that_cannot_be_killed_is_abandoned(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Sequence[str]], object],
    error: type[BaseException],
) -> None:
    """Like sudo, which runs as root. The program exits once the test writes its input."""
    signalled: list[int] = []

    def killpg(group: int, _number: int) -> None:
        signalled.append(group)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", killpg)
    for name in ("KILL_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(process, name, 0.1)
    os.mkfifo(answer := tmp_path / "answer")

    try:
        with pytest.raises(error):
            act(["sh", "-c", f"echo ready; read -r _ <{answer}"])
        assert _is_alive(signalled[0])
    finally:
        answer.write_text("done\n")
    until(lambda: Pending("it lives") if _is_alive(signalled[0]) else None, what="its end", timeout=10)


def test_a_program_that_reads_input_can_be_killed_by_another_thread() -> None:
    def kill_soon(kill: Callable[[], None]) -> None:
        Timer(0.2, kill).start()

    def write(file: IO[bytes]) -> None:
        file.write(b"x" * (1 << 20))  # more than a pipe holds

    assert feed(["sleep", "60"], write, timeout=30, started=kill_soon).code == -signal.SIGKILL


def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    with pytest.raises(ProviderError, match=r"\b1 s") as raised:
        run(["sh", "-c", f"sleep 60 & echo $! >{pid}; wait"], timeout=1)

    assert raised.value.id == "tool-timeout"
    child = int(pid.read_text())
    until(lambda: Pending("it lives") if _is_alive(child) else None, what=f"the end of {child}", timeout=10)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProviderError, match="no-such-program") as raised:
        run(["no-such-program"])

    assert raised.value.id == "tool-not-started"
    assert "PATH" in raised.value.hint


def test_a_failed_check_raises_the_callers_error_with_the_last_lines() -> None:
    with pytest.raises(MissingError, match=r"\b2\b") as raised:
        check(["sh", "-c", "echo 'odd' >&2; exit 2"], error=MissingError, hint="Make room.")

    assert raised.value.details == ("odd",)
    assert raised.value.hint == "Make room."


def test_lines_are_passed_on_with_undecodable_bytes_replaced() -> None:
    lines: list[str] = []

    finished = stream(["printf", r"one\ntwo  \n\377"], lines.append)

    assert lines == ["one", "two", "\N{REPLACEMENT CHARACTER}"]
    assert finished.code == 0


def test_a_watch_that_raises_an_error_stops_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WATCH_SECONDS", 0.05)
    looks = iter([None, ProviderError("nobody answers any more", id="silent")])

    def look() -> None:
        if error := next(looks):
            raise error

    with pytest.raises(ProviderError) as caught:
        stream(["sh", "-c", "echo waiting; exec sleep 60"], lambda _line: None, watch=look)
    assert caught.value.id == "silent"
    assert stream(["true"], lambda _line: None, watch=look).code == 0


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_stops_its_program_cleanly(tmp_path: Path) -> None:
    exited = tmp_path / "ended"
    program = ["sh", "-c", f"trap 'touch {exited}; exit' INT; echo ready; for _ in $(seq 600); do sleep 0.05; done"]

    with pytest.raises(KeyboardInterrupt):
        stream(program, _interrupt)

    assert exited.exists()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_of_a_program_stops_it(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    begin, started = process._spawn, list[subprocess.Popen[bytes]]()

    def interrupted(*words: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - passed on unchanged
        started.append(begin(*words, **options))
        signal.raise_signal(number)
        return started[0]

    def end(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    handler = signal.signal(number, end)
    monkeypatch.setattr(process, "_spawn", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(["sleep", "60"])
        assert started[0].returncode == -signal.SIGINT
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, handler)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_just_after_the_start_of_a_program_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def interrupted(pid: int, _text: str) -> None:
        if pid not in started:
            started.append(pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(log, "write", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run(["sleep", "60"])

    assert [_is_alive(pid) for pid in started] == [False]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_just_after_the_exit_of_a_program_is_raised() -> None:
    def interrupted(_line: str) -> None:
        os.waitpid(-1, 0)  # reap it, so that it cannot be signalled any more
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        stream(["echo", "done"], interrupted)


def test_a_program_runs_in_another_process_group() -> None:
    group = int(check([sys.executable, "-c", "import os; print(os.getpgrp())"]))

    assert group != os.getpgrp()


def _interrupt(_line: str) -> None:
    signal.raise_signal(signal.SIGINT)


def _is_alive(pid: int) -> bool:
    """Return whether the process still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
