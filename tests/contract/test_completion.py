"""labctl's completion script in a real shell."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from fakes import lab

from labctl.config import saved_lab
from labctl.host.process import Finished, run

PROGRAMS = Path(sys.executable).parent
BASH = """\
source <(labctl completion bash)
COMP_WORDS=(labctl {words} '')
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_labctl_completion labctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def _bash(home: Path, script: str) -> Finished:
    """Run a script in bash without the user's startup files."""
    environment = {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    line = ["env", f"XDG_STATE_HOME={home / 'state'}", "bash", "--norc", "--noprofile", "-c", script]
    return run(line, env=environment, cwd=home, timeout=60)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ssh", ["control-plane", "worker-1"]),
        ("--name", ["demo"]),
        ("app", ["add", "list", "remove"]),
        ("trace", ["my-app.local"]),
    ],
)
def test_bash_completes_names_and_commands(tmp_path: Path, words: str, expected: list[str]) -> None:
    saved_lab.write(tmp_path / "state" / "labctl" / "demo", saved_lab.SavedLab(lab(), isolated=False))

    finished = _bash(tmp_path, BASH.format(words=words))

    assert sorted(finished.out.split()) == expected
    assert list(finished.last_lines) == finished.out.splitlines(), "there is other output"


def test_bash_completion_is_silent_if_the_configuration_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "labctl.yaml").write_text("workers: [\n")

    finished = _bash(tmp_path, BASH.format(words="ssh"))

    assert (finished.code, finished.last_lines) == (0, ())
