"""Containers without an Engine: labctl finds them by their shims and kills all of their processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.host.wait import Pending, until
from labctl.isolation import containers

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
    """Two processes that look like shims, each with a child: one of our containerd, one of a foreign one."""
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
        if _is_running(child):
            os.kill(child, signal.SIGKILL)


def test_only_the_containers_of_this_containerd_are_killed_and_their_cgroups_removed(
    shims: dict[str, Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tmp_path / "cgroup"
    for group in ("memory/docker/id-of-ours/kubepods", "unified/docker-id-of-ours.scope", "memory/docker/id-of-theirs"):
        (groups / group).mkdir(parents=True)
    monkeypatch.setattr(containers, "CONTROL_GROUPS", groups)

    assert containers.kill_containers(tmp_path / "ours")

    _wait_for_exit(shims["ours"][1])
    assert _is_running(shims["theirs"][1])
    assert sorted(str(path.relative_to(groups)) for path in groups.glob("*/**")) == [
        "memory",
        "memory/docker",
        "memory/docker/id-of-theirs",
        "unified",
    ]


def test_a_container_without_its_shim_is_killed_and_no_other(
    shims: dict[str, Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, groups, identity = tmp_path / "engine", tmp_path / "cgroup", "0123456789abcdef" * 4
    for name in (identity, "docker", "0123"):
        (engine / "containers" / name).mkdir(parents=True)
    shim, child = shims["ours"]
    shim.kill()
    for group, pid in ((f"docker/{identity}/system.slice", child), ("docker", shims["theirs"][1])):
        (groups / "memory" / group).mkdir(parents=True, exist_ok=True)
        (groups / "memory" / group / "cgroup.procs").write_text(f"0\n{pid}\n")
    monkeypatch.setattr(containers, "CONTROL_GROUPS", groups)
    monkeypatch.setattr(containers, "END_SECONDS", 0.3)  # the ordinary file cgroup.procs keeps the group here

    assert containers.containers_of(engine) == [identity]
    assert containers.kill_containers(tmp_path / "gone", containers.containers_of(engine))

    _wait_for_exit(child)
    assert _is_running(shims["theirs"][1])


def test_a_containerd_that_never_ran_has_no_containers(tmp_path: Path) -> None:
    assert not containers.kill_containers(tmp_path / "containerd.sock", ["0123456789abcdef" * 4])
    assert containers.containers_of(tmp_path / "engine") == []


def _wait_for_exit(pid: int) -> None:
    until(lambda: Pending("it runs") if _is_running(pid) else None, what=f"the end of {pid}", timeout=10)


def _is_running(pid: int) -> bool:
    state = Path("/proc", str(pid), "stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
