"""A real labctl that is told to stop while a tool of its own runs."""

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
def test_a_run_that_is_stopped_ends_its_tool_and_says_so_last(
    tmp_path: Path, number: signal.Signals, code: int, identity: str
) -> None:
    folder, noted = tmp_path / "state" / "labctl" / "demo", tmp_path / "docker.pid"
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
        until(lambda: None if noted.exists() and noted.read_text() else Pending("not begun"), what="docker", timeout=60)
        child.send_signal(number)
        out, _ = child.communicate(timeout=60)

    *_, failed, result = (json.loads(each) for each in out.splitlines())
    assert child.returncode == code
    assert (failed["step"], failed["state"], failed["text"]) == ("nodes", "failed", identity)
    assert failed["seconds"] >= 0
    assert (result["ok"], result["error"]["id"]) == (False, identity)
    assert not Path(f"/proc/{noted.read_text().strip()}").exists(), "its tool runs on"
