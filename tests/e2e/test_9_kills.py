"""labctl is killed at every step of a lab's life, and the next command completes normally.

Each stage starts from the previous one; the first one is the fixture `survivor`. The points are those of
labctl.host.failpoints. A kill that does not happen fails the test, so that a removed point is noticed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from . import footprint
from .kills import run_until_killed
from .reallab import UP_SECONDS, RealLab, run

pytestmark = pytest.mark.e2e

URL = "http://my-app.local"
RUNTIME = Path("/run/labctl/e2e-k")
DAMAGE = {
    "boot.progress:2": ("docker", "rm", "--force", "--volumes", "e2e-k-worker-1"),
    "metallb.progress": ("kubectl", "delete", "deployment", "controller", "-n", "metallb-system"),
    "apply:3": ("kubectl", "delete", "namespace", "ingress-nginx", "--wait=true"),
    "apps.progress:2": ("kubectl", "delete", "ingress", "my-app"),
    "hosts.rename": ("labctl", "hosts", "remove"),
}
"""What is broken first, so that a later `up` reaches the point."""
HALTING = ("nodes.begin", "run.docker:2", "nodes.end", "isolation.end")
RESUMING = ("isolation.end", "boot.progress:2", "boot.end", "cluster.progress", "verify.begin")
DESTROYING = (
    "hosts.end",
    "nodes.begin",
    "nodes.end",
    "run.ip:1",
    "run.iptables:2",
    "isolation.end",
    "remove:3",
)


def test_a_lab_whose_up_was_killed_in_every_step_is_complete(survivor: RealLab) -> None:
    _check_from_outside(survivor)


@pytest.mark.parametrize(("point", "damage"), DAMAGE.items(), ids=DAMAGE)
def test_a_killed_repair_is_completed_by_the_next_up(survivor: RealLab, point: str, damage: tuple[str, ...]) -> None:
    program, *words = damage
    getattr(survivor, program)(*words)

    run_until_killed(survivor, point, "up", *survivor.up_options)
    survivor.up()

    _check_from_outside(survivor)


def test_a_halt_killed_in_every_step_can_be_repeated_and_undone(survivor: RealLab) -> None:
    for point in HALTING:
        run_until_killed(survivor, point, "halt")
    survivor.labctl("halt")

    assert _problems(survivor) & {"engine-stopped", "node-not-running"}
    survivor.labctl("resume", seconds=UP_SECONDS)
    _check_from_outside(survivor)


def test_a_resume_killed_in_every_step_is_completed_by_the_next(survivor: RealLab) -> None:
    survivor.labctl("halt")
    for point in RESUMING:
        run_until_killed(survivor, point, "resume")

    survivor.labctl("resume", seconds=UP_SECONDS)

    _check_from_outside(survivor)


def test_an_interrupted_halt_or_resume_exits_with_130(survivor: RealLab) -> None:
    assert _interrupt_at(survivor, "halt", "nodes: stopping") == 130
    survivor.labctl("halt")
    assert _interrupt_at(survivor, "resume", "boot: e2e-k") == 130

    survivor.up()

    _check_from_outside(survivor)


def test_a_lab_is_resumed_after_its_machine_lost_power(survivor: RealLab) -> None:
    recorded = footprint.record(survivor)
    recorded.sweep()
    for mount in recorded.mounts():
        run("umount", "--lazy", mount)
    shutil.rmtree(RUNTIME)
    recorded.remove_control_groups()

    assert "namespace-gone" in _problems(survivor)
    survivor.labctl("resume", seconds=UP_SECONDS)
    _check_from_outside(survivor)


def test_a_second_labctl_waits_and_prints_which_process_holds_the_lock(survivor: RealLab) -> None:
    survivor.labctl("halt")
    with subprocess.Popen(
        survivor.arguments("resume"),
        env=survivor.full_environment(),
        cwd=survivor.state_home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        next(line for line in first.stderr or () if line.startswith("boot: started"))
        second = survivor.labctl("-o", "json", "up", *survivor.up_options, seconds=UP_SECONDS)
        first.communicate(timeout=UP_SECONDS)

    assert first.returncode == 0
    assert any(
        f"waiting for `labctl --name e2e-k resume` (pid {first.pid})" == event.get("text") for event in second.events()
    )
    _check_from_outside(survivor)


def test_a_destroy_killed_in_every_step_leaves_nothing_even_without_an_engine(survivor: RealLab) -> None:
    recorded = footprint.record(survivor)
    for process in recorded.processes:
        if process.command.startswith(("dockerd ", "containerd ")):
            os.kill(process.pid, signal.SIGKILL)
    for damaged in ("containers", "network", "overlay2"):
        shutil.rmtree(survivor.folder / "engine" / "docker" / damaged, ignore_errors=True)
    for point in DESTROYING:
        run_until_killed(survivor, point, "destroy", "--yes")

    survivor.labctl("destroy", "--yes", "--purge", seconds=120)

    assert recorded.remaining() == []
    assert not survivor.folder.exists()
    assert "e2e-k" not in survivor.labctl("list").out


def _problems(lab: RealLab) -> set[str]:
    return {problem["id"] for problem in lab.status(code=8)["problems"]}


def _interrupt_at(lab: RealLab, word: str, moment: str) -> int:
    """Interrupt labctl as soon as it prints a line that begins with `moment`; return its exit code."""
    with subprocess.Popen(
        lab.arguments(word),
        env=lab.full_environment(),
        cwd=lab.state_home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        next(line for line in child.stderr or () if line.startswith(moment))
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=UP_SECONDS)
    return child.returncode


def _check_from_outside(lab: RealLab) -> None:
    """Check the lab with other programs than labctl, and that `up` changes nothing."""
    assert lab.page(URL)[0] == 200
    assert _ready_nodes(lab) == {"e2e-k-control-plane", "e2e-k-worker-1"}
    service = lab.objects("service", "ingress-nginx-controller", "-n", "ingress-nginx")
    assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.168.56.100"
    lines = lab.inside("cat", "/etc/hosts").splitlines()
    assert [line for line in lines if "my-app.local" in line] == ["192.168.56.100 my-app.local"]
    assert not lab.up().result()["changed"]


def _ready_nodes(lab: RealLab) -> set[str]:
    return {
        node["metadata"]["name"]
        for node in lab.objects("nodes")["items"]
        for condition in node["status"]["conditions"]
        if (condition["type"], condition["status"]) == ("Ready", "True")
    }
