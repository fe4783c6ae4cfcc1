"""Two virtual machines of a real libvirt, which an ordinary user creates, uses by name and destroys.

Without KVM, QEMU emulates them, which takes minutes and tests every limit that depends on the nodes' speed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt_machine
import pytest
from libvirt_machine import BUNDLE, HOME, USER, LibvirtMachine

from .reallab import Completed, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]

UP = ("-o", "json", "up", "--provider", "libvirt", "--bundle", str(BUNDLE))
UP_SECONDS = 1500.0
"""Five minutes on an idle machine, and three times as long next to other tests."""
SERVED_SECONDS = 300.0
"""Longest outage after a machine is powered off: limits are long, so that a slow node does not count as failed."""
PAGE = ("curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "http://my-app.local")
RESTARTS = 10
"""A container that a `resume` restarts this often started long before what it needs, again and again."""
FOREIGN = {
    "net-define": '<network><name>theirs</name><bridge name="theirs0"/><ip address="192.168.99.1" prefix="24"/></network>',
    "define": "<domain type='qemu'><name>theirs</name><memory>65536</memory><os><type>hvm</type></os></domain>",
}
RecordProperty = Callable[[str, object], None]


@pytest.fixture(scope="module")
def machine(bundle: Path) -> Iterator[LibvirtMachine]:
    """Yield a machine with a foreign network, domain and volume."""
    disk = Path(tempfile.mkdtemp(prefix="labctl-e2e-libvirt-", dir="/var/tmp"))
    try:
        with libvirt_machine.running("e2e-libvirt", disk, bundle) as machine:
            for act, text in FOREIGN.items():
                machine.path(HOME / "theirs.xml").write_text(text, encoding="ascii")
                machine.virsh(act, str(HOME / "theirs.xml"))
            machine.virsh("pool-define-as", "default", "dir", "--target", "/var/lib/libvirt/images")
            machine.virsh("pool-start", "default")
            machine.virsh("vol-create-as", "default", "theirs.img", "1M")
            yield machine
    finally:
        shutil.rmtree(disk)


def test_machines_serve_until_they_are_destroyed(machine: LibvirtMachine, record_property: RecordProperty) -> None:
    before, foreign = machine.holds(), _foreign_objects(machine)
    hosts = machine.path(Path("/etc/hosts")).read_bytes()

    def timed(what: str, *words: str, code: int = 0) -> Completed:
        started = time.monotonic()
        completed = machine.labctl(*words, code=code, seconds=UP_SECONDS)
        record_property("seconds", f"libvirt, {what}: {time.monotonic() - started:.1f} s")
        return completed

    first = timed("up", *UP)
    assert first.result()["urls"] == ["http://my-app.local"]
    _require_page(machine)
    assert machine.path(HOME).stat().st_mode & 0o777 == 0o700

    again = timed("up again", *UP)
    assert [event["step"] for event in again.events() if event.get("changed") and event["event"] == "step"] == []
    status = timed("status", "-o", "json", "status").document()
    assert (status["ok"], [node["ready"] for node in status["nodes"]]) == (True, [True, True])
    trace = timed("trace", "-o", "json", "trace", "my-app.local").document()
    assert (trace["ok"], {hop["state"] for hop in trace["hops"]}) == (True, {"ok"})
    assert "labctl-node" in machine.labctl("ssh", "worker-1", "--", "systemctl", "list-units", "labctl-node*").out

    timed("power off one machine", "halt", "worker-1", "--force")
    assert machine.virsh("domstate", "demo-worker-1").strip() == "shut off"
    started = time.monotonic()
    eventually(lambda: _page(machine), lambda code: code == "200", seconds=SERVED_SECONDS)
    record_property("away", f"libvirt, one of two machines powered off: {time.monotonic() - started:.1f} s")
    assert timed("resume of one machine", "-o", "json", "resume").result()["ok"]
    _require_page(machine)
    _require_calm_pods(machine)

    timed("destroy", "destroy", "--yes", "--purge")
    assert machine.holds() == before
    assert _foreign_objects(machine) == foreign
    assert machine.path(Path("/etc/hosts")).read_bytes() == hosts
    assert [path.name for path in machine.path(machine.state_home).glob("labctl/*")] == []
    assert list(machine.path(HOME).glob(".vagrant.d/boxes/labctl*")) == []


def _require_page(machine: LibvirtMachine) -> None:
    """Require HTTP 200 from the app; fail with the lab's pods and what `trace` reports."""
    code = _page(machine)
    if code != "200":
        pods = machine.labctl("exec", "--", "kubectl", "get", "pods,endpointslices", "-A", "-o", "wide", code=None)
        trace = machine.labctl("-o", "json", "trace", "my-app.local", code=None)
        pytest.fail(f"HTTP {code}\n{pods.out}\n{trace.out}")


def _require_calm_pods(machine: LibvirtMachine) -> None:
    """Require that the kubelets evicted no pod, and restarted none again and again."""
    pods = machine.labctl("exec", "--", "kubectl", "get", "pods", "-A", "-o", "json").document()["items"]
    restarts = {
        f"{pod['metadata']['name']} {container['name']}": container["restartCount"]
        for pod in pods
        for container in pod["status"].get("containerStatuses", ())
    }
    assert [pod["metadata"]["name"] for pod in pods if pod["status"].get("reason") == "Evicted"] == []
    assert restarts
    assert {name: count for name, count in restarts.items() if count >= RESTARTS} == {}


def _page(machine: LibvirtMachine) -> str:
    return machine.run(USER, *PAGE, code=None, seconds=90).out


def _foreign_objects(machine: LibvirtMachine) -> dict[str, Any]:
    """Return libvirt's descriptions of the foreign objects."""
    volume = machine.virsh("vol-dumpxml", "--pool=default", "theirs.img")
    return {
        "domain": machine.virsh("dumpxml", "theirs"),
        "network": machine.virsh("net-dumpxml", "theirs"),
        "volume": json.dumps(volume.partition("<timestamps>")[0]),
    }
