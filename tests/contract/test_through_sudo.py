"""The owner of the files that labctl leaves when a user runs it with sudo."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from fakes import bundle

import labctl
from labctl.bundle.format import write
from labctl.host.process import Finished, run

pytestmark = pytest.mark.root

USER = 65534
SECONDS = 20.0
COMPILED = Path(labctl.__spec__.cached or "").name
"""The bytecode that Python compiles before labctl can prevent it; labctl makes the user its owner."""
COMMANDS = (
    ("init",),
    ("app", "add", "shop"),
    ("app", "remove", "shop"),
    ("list",),
    ("status",),
    ("kubeconfig", "--merge"),
    ("render", "--out", "rendered/below", "--provider", "libvirt", "--bundle", "../../bundle"),
    ("logs", "--export", "report/below"),
    ("doctor",),
    ("destroy", "--yes"),
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home with an uncompiled installation of labctl, and a project folder."""
    folder = tmp_path / "home"
    shutil.copytree(
        Path(labctl.__file__).parent, folder / "env" / "labctl", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("templates", "Vagrantfile.j2"):
        source = Path(labctl.__file__).parent.parent / name  # an installed package contains them
        if source.exists():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / "env" / name)
    (folder / "project").mkdir()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    return folder


def _run(home: Path, own_home: Path, *command: str) -> Finished:
    environment = {
        "HOME": str(own_home),
        "SUDO_UID": str(USER),
        "SUDO_GID": str(USER),
        "PYTHONPATH": str(home / "env"),
        **{f"XDG_{kind}_HOME": "" for kind in ("STATE", "CACHE", "CONFIG", "DATA")},
        "KUBECONFIG": str(home / "kubeconfig"),
    }
    return run([sys.executable, "-m", "labctl", *command], env=environment, cwd=home / "project", timeout=SECONDS)


def _not_owned_by_user(home: Path) -> list[str]:
    return [str(path) for path in home.rglob("*") if path.lstat().st_uid != USER]


def test_everything_in_the_users_home_belongs_to_the_user(tmp_path: Path, home: Path) -> None:
    (tmp_path / "root").mkdir()
    write(bundle(tmp_path / "bundle"))

    codes = {command: _run(home, tmp_path / "root", *command).code for command in COMMANDS}

    assert not [command for command, code in codes.items() if code == 1], codes
    assert {codes[command] for command in COMMANDS if command[0] in {"init", "app", "render"}} == {0}
    assert (home / "project" / "rendered" / "below" / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert yaml.safe_load((home / "project" / "labctl.yaml").read_text())["name"] == "demo"
    assert _not_owned_by_user(home) == []


def test_sudo_with_the_users_home_is_a_usage_error(home: Path) -> None:
    before = sorted(home.rglob("*"))

    for command in (("up",), ("render",), ("destroy", "--yes"), ("bundle", "build")):
        finished = _run(home, home, *command)
        assert (finished.code, "without sudo" in "\n".join(finished.last_lines)) == (2, True), command

    assert _not_owned_by_user(home) == []
    assert {path.name for path in home.rglob("*") if path not in before} <= {"__pycache__", COMPILED}
