"""Standard streams of a real process that are closed, full, or without a reader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LABCTL = str(Path(sys.executable).with_name("labctl"))
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def _shell(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "LABCTL": LABCTL}
    for name in ("STATE", "CACHE", "CONFIG", "DATA"):
        environment[f"XDG_{name}_HOME"] = str(home / name.lower())
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, "-c", line], env=environment, cwd=home, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", ["list", "-o json list", "--help", "schema", "completion bash", "nonsense"])
def test_a_closed_pipe_is_a_quiet_exit(command: str, tmp_path: Path) -> None:
    # The reader has exited before labctl writes, so the result does not depend on timing.
    finished = _shell(f'mkfifo p; : <p & exec 3>p; wait $!; "$LABCTL" {command} >&3; echo "code $?"', tmp_path)

    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr
    expected = {"nonsense": "code 2\n", "list": "code 0\n"}  # neither writes to standard output
    assert finished.stdout == expected.get(command, "code 141\n")
    assert command == "nonsense" or finished.stderr == ""


@pytest.mark.parametrize("stream", [pytest.param("/dev/full", marks=FULL), "&-"])
@pytest.mark.parametrize("command", ["-o json list", "--help", "schema", "completion bash"])
def test_output_that_cannot_be_written_is_one_error(command: str, stream: str, tmp_path: Path) -> None:
    finished = _shell(f'"$LABCTL" {command} >{stream}', tmp_path)

    assert finished.returncode == 3
    assert finished.stderr.startswith("error: standard output cannot be written: ")
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr


@pytest.mark.parametrize("stream", [pytest.param("/dev/full", marks=FULL), "&-"])
def test_errors_that_cannot_be_written_do_not_change_the_exit_code(stream: str, tmp_path: Path) -> None:
    assert _shell(f'"$LABCTL" nonsense 2>{stream}', tmp_path).returncode == 2
    assert _shell(f'"$LABCTL" --name nowhere destroy --yes 2>{stream}', tmp_path).returncode == 3


def test_a_run_whose_progress_cannot_be_written_continues(tmp_path: Path) -> None:
    finished = _shell('"$LABCTL" -o json list 2>&- <&-', tmp_path)

    assert finished.returncode == 0
    assert json.loads(finished.stdout)["labs"] == []


def test_a_file_opened_later_does_not_replace_a_closed_stream(tmp_path: Path) -> None:
    finished = _shell('"$LABCTL" init >&- 2>&- <&-; cat labctl.yaml', tmp_path)

    assert "error" not in finished.stdout
    assert finished.stdout.startswith("# yaml-language-server")


def test_any_character_can_be_printed_in_any_terminal_encoding(tmp_path: Path) -> None:
    finished = _shell(
        "LC_ALL=C PYTHONIOENCODING=ascii \"$LABCTL\" --config $'\\xff\\xe2\\x98\\x83.yaml' status", tmp_path
    )

    assert finished.returncode == 2
    assert finished.stderr.startswith("error: there is no configuration file ")
