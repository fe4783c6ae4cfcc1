"""Containers whose Engine is gone: found by the process that holds each, and ended with all that is in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl import containers
from labctl.wait import Pending, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

SHIM = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(60)
"""
Started = tuple[subprocess.Popen[str], int]


@pytest.fixture
def shims(tmp_path: Path) -> Iterator[dict[str, Started]]:
    """Two processes that look like shims, each with a child: one of our containerd, one of another."""
    program = tmp_path / "containerd-shim-runc-v2"
    program.symlink_to(sys.executable)
    started: dict[str, Started] = {}
    for owner in ("ours", "theirs"):
        words = ["-c", SHIM, "-namespace", "moby", "-id", f"id-of-{owner}", "-address", str(tmp_path / owner)]
        shim = subprocess.Popen([str(program), *words], stdout=subprocess.PIPE, text=True)
        started[owner] = (shim, int((shim.stdout or sys.stdin).readline()))
    yield started
    for shim, child in started.values():
        shim.kill()
        shim.communicate()
        if _runs(child):
            os.kill(child, signal.SIGKILL)


def test_the_containers_of_one_containerd_end_with_their_control_groups_and_no_others(
    shims: dict[str, Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tmp_path / "cgroup"
    for group in ("memory/docker/id-of-ours/kubepods", "unified/docker-id-of-ours.scope", "memory/docker/id-of-theirs"):
        (groups / group).mkdir(parents=True)
    monkeypatch.setattr(containers, "CONTROL_GROUPS", groups)

    assert containers.end(tmp_path / "ours")

    _await_end(shims["ours"][1])
    assert _runs(shims["theirs"][1])
    assert sorted(str(path.relative_to(groups)) for path in groups.glob("*/**")) == [
        "memory",
        "memory/docker",
        "memory/docker/id-of-theirs",
        "unified",
    ]


def test_there_is_nothing_to_end_of_a_containerd_that_never_ran(tmp_path: Path) -> None:
    assert not containers.end(tmp_path / "containerd.sock")


def _await_end(pid: int) -> None:
    until(lambda: Pending("it runs") if _runs(pid) else None, what=f"the end of {pid}", timeout=10)


def _runs(pid: int) -> bool:
    state = Path("/proc", str(pid), "stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
