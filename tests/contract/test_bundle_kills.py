"""A build of a bundle that was killed while it moved a file into place resumes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from fakes import FakeMakers

from labctl.bundle import load, verify
from labctl.bundle.build.build import build
from labctl.bundle.build.recipe import RECIPE
from labctl.host import failpoints

FILES = sum(len(artefact.files) for artefact in RECIPE)


@pytest.fixture(autouse=True)
def _enough_disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)


def test_builds_that_are_killed_at_every_file_resume_to_the_same_bundle(tmp_path: Path) -> None:
    whole = build(tmp_path / "whole", _ignore, FakeMakers())
    kills = 0

    # An artefact has at most two files and is recorded once both are in place, so each build completes one more.
    while _build_until_killed(tmp_path / "killed", at=3) == -signal.SIGKILL:
        kills += 1
    killed = load(tmp_path / "killed" / "bundles" / whole.id)

    assert kills >= FILES // 3
    verify(killed, tmp_path / "killed", _ignore)
    assert [(file.path, file.sha256) for file in killed.files] == [(file.path, file.sha256) for file in whole.files]
    left = {path.name for path in killed.folder.rglob("*") if path.is_file()}
    assert left == {"bundle.yaml", *(Path(file.path).name for file in killed.files)}


def _build_until_killed(cache: Path, at: int) -> int:
    """Return the exit code of a build that is killed when it moves its file number `at` into place."""
    pid = os.fork()
    if pid == 0:
        failpoints._POINT, failpoints._left = "artefact", at
        build(cache, _ignore, FakeMakers())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _ignore(_text: str) -> None:
    pass
