"""Parts of a running lab fail or are damaged under load: `status` names the fault, and `up` repairs it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import footprint
from .client import under_load
from .reallab import RealLab

pytestmark = pytest.mark.e2e

HOSTNAME = "my-app.local"
RUNTIME = Path("/run/labctl/e2e")
HOSTS = Path("/etc/netns/labctl-e2e/hosts")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the lab, what `status` then reports, and which steps of `up` repair it."""

    inject: Callable[[RealLab], object]
    problem: str
    """The id of a problem of `status`; empty if Kubernetes may repair the fault before `status` runs."""
    named: str
    """What the text of the problem names."""
    fixed_by: frozenset[str]


def _kill_daemon(name: str) -> Callable[[RealLab], object]:
    def kill(_lab: RealLab) -> None:
        [daemon] = [
            process
            for process in footprint.processes()
            if process.command.startswith(f"{name} ") and f"{RUNTIME}/" in process.command
        ]
        os.kill(daemon.pid, signal.SIGKILL)

    return kill


def _delete_pods(namespace: str) -> Callable[[RealLab], object]:
    return lambda lab: lab.kubectl("delete", "pods", "--all", "-n", namespace, "--wait=false")


def _put_foreign_keys(lab: RealLab) -> None:
    """Replace the lab's CA and kubeconfig with another lab's, and give its context this lab's name."""
    lab.labctl("--name", "foreign", "render", "--out", str(lab.state_home / "foreign"))
    for name in ("pki/ca.crt", "pki/ca.key", "kubeconfig"):
        shutil.copyfile(lab.state_home / "foreign" / name, lab.folder / name)
    kubeconfig = lab.folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig.read_text().replace("foreign", lab.name))
    shutil.rmtree(lab.state_home / "foreign")


def _point_elsewhere(_lab: RealLab) -> None:
    HOSTS.write_bytes(HOSTS.read_bytes().replace(b"192.168.56.100", b"192.168.56.99"))


FAULTS = {
    "a worker killed": Fault(
        lambda lab: lab.docker("kill", "e2e-worker-1"), "node-not-running", "e2e-worker-1", frozenset({"boot"})
    ),
    "the control plane killed": Fault(
        lambda lab: lab.docker("kill", "e2e-control-plane"),
        "node-not-running",
        "e2e-control-plane",
        frozenset({"boot"}),
    ),
    "the lab's dockerd killed": Fault(_kill_daemon("dockerd"), "engine-stopped", "", frozenset({"isolation"})),
    "the lab's containerd killed": Fault(_kill_daemon("containerd"), "engine-stopped", "", frozenset({"isolation"})),
    "the ingress pods deleted": Fault(_delete_pods("ingress-nginx"), "", "", frozenset()),
    "MetalLB's pods deleted": Fault(_delete_pods("metallb-system"), "", "", frozenset()),
    "the app's pods deleted": Fault(_delete_pods("default"), "", "", frozenset()),
    "the hosts block removed": Fault(
        lambda lab: lab.labctl("hosts", "remove"), "hosts-entry-missing", HOSTNAME, frozenset({"hosts"})
    ),
    "a wrong address in the hosts block": Fault(
        _point_elsewhere, "hosts-entry-outdated", "192.168.56.99", frozenset({"hosts"})
    ),
    "the kubeconfig deleted": Fault(
        lambda lab: (lab.folder / "kubeconfig").unlink(), "kubeconfig-unusable", "kubeconfig", frozenset({"render"})
    ),
    "the certificates of another lab": Fault(_put_foreign_keys, "api-not-trusted", "", frozenset({"render"})),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported_by_status_and_fixed_by_up(
    lab: RealLab, name: str, record_property: Callable[[str, object], None]
) -> None:
    fault = FAULTS[name]
    with under_load(lab, HOSTNAME) as client:
        fault.inject(lab)
        if fault.problem:
            broken = lab.status(code=8)
            assert not broken["ok"]
            texts = {problem["id"]: problem["text"] for problem in broken["problems"]}
            assert fault.named in texts.get(fault.problem, ""), broken["problems"]
            assert fault.problem in texts
        steps = lab.up().events()

    assert fault.fixed_by <= {event["step"] for event in steps[:-1] if event.get("changed")}
    assert lab.status()["ok"]
    record_property("away", f"{name}: the site was away for {client.outage:.1f} s")


def test_a_block_without_its_end_is_refused_and_not_changed(lab: RealLab) -> None:
    before = HOSTS.read_bytes()
    damaged = before.replace(b"# END labctl e2e\n", b"")
    HOSTS.write_bytes(damaged)
    try:
        broken, refused = lab.status(code=8), lab.up(code=7).result()["error"]

        assert "hosts-damaged" in {problem["id"] for problem in broken["problems"]}
        assert (refused["id"], bool(refused["hint"])) == ("hosts-damaged", True)
        assert HOSTS.read_bytes() == damaged
    finally:
        HOSTS.write_bytes(before)
    assert lab.status()["ok"]


def test_a_resumed_lab_is_as_it_was_before_the_halt(
    lab: RealLab, record_property: Callable[[str, object], None]
) -> None:
    before = lab.status()
    with under_load(lab, HOSTNAME) as client:
        halted = lab.labctl("-o", "json", "halt").result()
        resumed = lab.labctl("-o", "json", "resume", seconds=300).result()

    assert lab.status() == before
    record_property(
        "away",
        f"halt took {halted['seconds']:.1f} s, resume {resumed['seconds']:.1f} s: "
        f"the site was away for {client.outage:.1f} s",
    )
