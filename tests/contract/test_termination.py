"""A real labctl that is interrupted or terminated while one of its tools runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import lab

from labctl.config import saved_lab
from labctl.host.wait import Pending, until

DOCKER = """\
#!/bin/sh
echo $$ >"$HOME/docker.pid"
exec sleep 600
"""


@pytest.mark.parametrize(
    ("number", "code", "identity"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_run_stops_its_tool_and_reports_it_last(
    tmp_path: Path, number: signal.Signals, code: int, identity: str
) -> None:
    folder, pid_file = tmp_path / "state" / "labctl" / "demo", tmp_path / "docker.pid"
    saved_lab.write(folder, saved_lab.SavedLab(lab(), isolated=False))
    (folder / "Vagrantfile").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }

    line = [sys.executable, "-m", "labctl", "-o", "json", "halt"]
    with subprocess.Popen(line, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as child:
        until(
            lambda: None if pid_file.exists() and pid_file.read_text() else Pending("not begun"),
            what="docker",
            timeout=60,
        )
        child.send_signal(number)
        out, _ = child.communicate(timeout=60)

    *_, failed, result = (json.loads(each) for each in out.splitlines())
    assert child.returncode == code
    assert (failed["step"], failed["state"], failed["text"]) == ("nodes", "failed", identity)
    assert failed["seconds"] >= 0
    assert (result["ok"], result["error"]["id"]) == (False, identity)
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists(), "its tool still runs"


def test_an_interrupt_during_imports_exits_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    line = [sys.executable, "-m", "labctl", "list"]
    finished = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "")


def test_a_program_that_replaces_labctl_does_not_ignore_sigpipe(tmp_path: Path) -> None:
    line = "import signal, sys; from labctl.commands import labs; from labctl.config import from_values\n"
    line += "from labctl.context import Context; from pathlib import Path\n"
    line += (
        "labs.replace_process(Context(from_values({}), Path(), Path()), ['grep', '^SigIgn', '/proc/self/status'], {})"
    )
    finished = subprocess.run([sys.executable, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)

    ignored = int(finished.stdout.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1)
