"""The log of a run: all output of real programs, written at once and readable by its owner only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.host import log
from labctl.host.log import logging_to
from labctl.host.process import check, run, stream
from labctl.model.errors import MissingError, ProviderError

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[(?P<pid>\d+)\] (?P<text>.*)")
STREAMING = """
import sys
from pathlib import Path
from labctl.host.log import logging_to
from labctl.host.process import stream
with logging_to(Path(sys.argv[1])):
    stream(["sh", "-c", "echo first; exec sleep 60"], lambda line: print(line, flush=True))
"""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The log file during the test."""
    with logging_to(tmp_path / "log"):
        yield tmp_path / "log"


def test_an_entry_has_times_command_line_output_exit_code_and_seconds(path: Path) -> None:
    run(["sh", "-c", "echo out; echo err >&2; exit 3"])

    assert _texts(path) == ["$ sh -c 'echo out; echo err >&2; exit 3'", "out", "err", "exit code 3 after 0.0 s"]


def test_standard_input_is_not_logged(path: Path) -> None:
    check(["wc", "-c"], stdin=b"secret")

    assert "secret" not in path.read_text()


def test_a_line_is_logged_before_it_is_passed_on(path: Path) -> None:
    received: list[str] = []
    stream(["printf", r"one\ntwo\n"], lambda line: received.append(f"{line}: {_texts(path)[-1]}"))

    assert received == ["one: one", "two: two"]


def test_output_received_by_a_killed_labctl_is_in_the_log(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STREAMING, tmp_path / "log"], stdout=subprocess.PIPE, text=True
    ) as labctl:
        assert labctl.stdout is not None
        assert labctl.stdout.readline() == "first\n"
        labctl.kill()
    pid = int(_lines(tmp_path / "log")[0]["pid"])
    os.kill(pid, signal.SIGKILL)

    assert _texts(tmp_path / "log") == ["$ sh -c 'echo first; exec sleep 60'", "first"]


def test_a_program_that_timed_out_has_its_output_in_the_log(path: Path) -> None:
    with pytest.raises(ProviderError) as raised:
        run(["sh", "-c", "echo said; exec sleep 60"], timeout=0.5)

    assert raised.value.id == "tool-timeout"
    assert raised.value.details == ("said",)
    assert _texts(path)[1] == "said"
    assert _texts(path)[-1].startswith("exit code -9 after ")


@pytest.mark.usefixtures("interruptible")
def test_the_last_output_of_an_interrupted_program_is_in_the_log(path: Path) -> None:
    program = ["sh", "-c", "trap 'echo cleaning up; exit 1' INT; echo ready; for _ in $(seq 600); do sleep 0.05; done"]

    with pytest.raises(KeyboardInterrupt):
        stream(program, lambda _line: signal.raise_signal(signal.SIGINT))

    assert "cleaning up" in _texts(path)
    assert _texts(path)[-1].startswith("exit code 1 after ")


def test_concurrent_programs_are_distinguished_by_pid(path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        for number in range(8):
            pool.submit(run, ["sh", "-c", f"echo {number}; echo {number}"])

    by_pid: dict[str, list[str]] = {}
    for line in _lines(path):
        by_pid.setdefault(line["pid"], []).append(line["text"])
    assert sorted(texts[1:3] for texts in by_pid.values()) == [[str(number)] * 2 for number in range(8)]


def test_a_log_that_is_too_long_is_rotated_and_three_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_BYTES", 100)
    for number in range(8):
        with logging_to(tmp_path / "log"):
            log.write(number, "a line of sixty bytes, time and all")

    pids = {file.name: [line["pid"] for line in _lines(file)] for file in sorted(tmp_path.iterdir())}
    assert pids == {"log": ["6", "7"], "log.1": ["4", "5"], "log.2": ["2", "3"]}


def test_only_the_owner_may_read_a_log_even_if_it_existed_before(tmp_path: Path) -> None:
    (tmp_path / "log").touch(mode=0o644)

    with logging_to(tmp_path / "log"):
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_nothing_is_logged_outside_of_a_run(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        assert log.location() == tmp_path / "log"
    run(["true"])

    assert log.location() is None
    assert (tmp_path / "log").read_text() == ""


def test_undecodable_bytes_are_replaced(path: Path) -> None:
    run(["printf", r"\377 %s\n", os.fsdecode(b"\xfe")])

    assert _texts(path)[1] == "\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_does_not_stop_a_run_and_is_not_mentioned(path: Path) -> None:
    (file,) = (handler for handler in log._lines.handlers if isinstance(handler, log._LogFile))
    with Path("/dev/full").open("w") as full:
        assert file.stream is not None
        os.dup2(full.fileno(), file.stream.fileno())

    assert check(["echo", "out"]) == "out\n"
    assert log.location() is None
    assert path.read_text() == ""


def test_a_log_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()

    with pytest.raises(MissingError, match=re.escape(str(tmp_path / "log"))) as raised, logging_to(tmp_path / "log"):
        pass

    assert raised.value.id == "log-not-writable"


def _lines(path: Path) -> list[re.Match[str]]:
    lines = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert None not in lines, "a line has no time and pid"
    return [line for line in lines if line]


def _texts(path: Path) -> list[str]:
    return [line["text"] for line in _lines(path)]
