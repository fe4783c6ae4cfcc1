"""The libvirt provider with real libvirtd, virtlogd, QEMU and Vagrant, run by an ordinary user, with empty machines."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt_machine
import pytest
from e2e.reallab import Completed
from libvirt_machine import HOME, USER, LibvirtMachine

pytestmark = [pytest.mark.root, pytest.mark.slow]

DRIVER = Path(__file__).with_name("libvirt_driver.py")
NODES = ["demo-control-plane", "demo-worker-1"]
NETWORKS = ["labctl-demo", "labctl-demo-nat"]
SEEDS = [f"labctl-{node}-seed.iso" for node in NODES]
WAITING = [f"{node}: Waiting for domain to get an IP address" for node in NODES]
CHECKING = "checking the machine image"
FOREIGN_NETWORK = (
    '<network><name>theirs</name><bridge name="theirs0"/><ip address="192.168.{}.1" prefix="24"/></network>'
)
FOREIGN_DOMAIN = "<domain type='qemu'><name>{}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
POOL = Path("/var/lib/libvirt/images")


@pytest.fixture(scope="module")
def machine() -> Iterator[LibvirtMachine]:
    disk = Path(tempfile.mkdtemp(prefix="labctl-libvirt-", dir="/var/tmp"))
    try:
        with libvirt_machine.running("tests-libvirt", disk) as machine:
            yield machine
    finally:
        shutil.rmtree(disk)


@pytest.fixture
def image(machine: LibvirtMachine) -> Iterator[str]:
    """The name of the box's image in libvirt's pool. After the test, nothing else may be left."""
    yield _drive(machine, "prepare")["volume"]
    _drive(machine, "destroy")
    assert {kind: names for kind, names in machine.holds().items() if kind not in {"pool-list", "vol-list"}} == {
        "list": [],
        "net-list": [],
        "links": [],
    }
    assert [name for name in machine.names("vol-list") if "box_image" not in name] == []


def test_up_resumes_wherever_it_was_killed(machine: LibvirtMachine, image: str) -> None:
    _kill_before_the_domain_exists(machine)
    assert "demo-worker-1.img" in machine.names("vol-list") or "demo-control-plane.img" in machine.names("vol-list")

    _kill_at(machine, "up", "Creating shared folders metadata")
    assert machine.names("list") != []

    _kill_while_waiting(machine)
    assert machine.names("list") == NODES
    assert machine.names("vol-list") == sorted([*(f"{node}.img" for node in NODES), *SEEDS, image])
    assert _autostarted(machine) == []

    running = _drive(machine, "running")
    network = _drive(machine, "network")
    assert set(running) <= set(NODES)
    assert network["interface"] in machine.links()
    assert list(network["members"].values()) == [f"machine {node}" for node in NODES]
    active = machine.virsh("list", "--name").split()
    machine.virsh("suspend", NODES[0])  # as QEMU does when the disk is full
    assert NODES[0] not in _drive(machine, "running")
    assert _drive(machine, "halt", "--soft") == {"halted": sorted(active), "running": []}
    assert machine.virsh("list", "--name").split() == []
    index = machine.path(HOME / ".vagrant.d/data/machine-index/index")
    assert len(json.loads(index.read_bytes())["machines"]) >= len(NODES)
    assert _drive(machine, "destroy") == {"changed": True, "left": ""}
    assert json.loads(index.read_bytes())["machines"] == {}
    assert _drive(machine, "destroy") == {"changed": False, "left": ""}


@pytest.mark.parametrize(
    "text", [WAITING[0], pytest.param("Creating domain with the following settings", marks=pytest.mark.sweep)]
)
def test_up_resumes_after_an_interrupt(machine: LibvirtMachine, image: str, text: str) -> None:
    interrupted = _run_driver(machine, "up", f"--until={text}", "--interrupt", code=None)
    assert (interrupted.code, text in interrupted.err) == (-signal.SIGINT, True)

    _kill_while_waiting(machine)
    assert machine.names("list") == NODES
    assert machine.names("vol-list") == sorted([*(f"{node}.img" for node in NODES), *SEEDS, image])


@pytest.mark.sweep
def test_up_resumes_after_a_kill_at_every_line(machine: LibvirtMachine, image: str) -> None:
    whole = _run_driver(machine, "up", *(f"--until={text}" for text in WAITING), code=None)
    lines = [*dict.fromkeys(line for line in whole.err.splitlines() if line)]
    assert all(any(text in line for line in lines) for text in WAITING)
    _drive(machine, "destroy")
    for line in lines:
        _kill_at(machine, "up", line)
        _kill_while_waiting(machine)
        assert machine.names("list") == NODES, line
        assert machine.names("vol-list") == sorted([*(f"{node}.img" for node in NODES), *SEEDS, image]), line
        assert set(_drive(machine, "running")) <= set(NODES)
        assert _drive(machine, "destroy") == {"changed": True, "left": ""}, line
        assert (machine.names("list"), machine.names("vol-list")) == ([], [image]), line


def test_a_machine_created_with_kvm_boots_without_it(machine: LibvirtMachine, image: str) -> None:
    _kill_while_waiting(machine)
    _drive(machine, "halt")
    described = machine.path(Path(f"/etc/libvirt/qemu/{NODES[0]}.xml"))
    machine.stop_libvirt()
    xml = described.read_text(encoding="utf-8")
    for emulated, with_kvm in (
        ("'qemu'>", "'kvm'>"),
        ("<cpu .*</cpu>", "<cpu mode='host-passthrough'/>"),
        ("<tcg>.*</tcg>", ""),
    ):
        xml = re.sub(emulated, with_kvm, xml, flags=re.DOTALL)
    described.write_text(xml, encoding="utf-8")
    machine.start_libvirt()
    assert "<domain type='kvm'" in machine.virsh("dumpxml", "--inactive", NODES[0])
    uuid = machine.virsh("domuuid", NODES[0])

    _kill_while_waiting(machine)
    now = machine.virsh("dumpxml", "--inactive", NODES[0])
    assert ("<domain type='qemu'" in now, "Nehalem" in now, machine.virsh("domuuid", NODES[0])) == (True, True, uuid)
    assert image in machine.names("vol-list")


def test_a_seed_and_a_console_have_the_right_owners_and_modes(machine: LibvirtMachine, image: str) -> None:
    _kill_while_waiting(machine)
    home, console = machine.path(HOME), machine.path(HOME) / ".local/state/labctl/demo/console" / f"{NODES[0]}.log"
    seed = machine.path(POOL / SEEDS[0])

    assert home.stat().st_mode & 0o777 == 0o700
    assert (seed.owner(), seed.stat().st_mode & 0o777) == (libvirt_machine.HYPERVISOR, 0o600)
    assert console.stat().st_mode & 0o777 == 0o644
    assert "SeaBIOS" in "\n".join(_drive(machine, "logs")["console"]) or _drive(machine, "logs") == {"console": []}
    before = seed.read_bytes()
    _drive(machine, "halt")
    for network in NETWORKS:
        machine.virsh("net-destroy", network)  # as after a reboot
    _kill_while_waiting(machine, "--seed=second")
    assert (seed.read_bytes() == before, b"second" in seed.read_bytes()) == (False, True)
    assert image in machine.names("vol-list")


def test_an_image_in_the_pool_is_checked_against_the_bundle(machine: LibvirtMachine, image: str) -> None:
    whole = machine.path(POOL / image).read_bytes()
    assert not _reads_image(machine)  # it was uploaded or checked before
    for content in (whole[:1000], b"another image" * 1000, whole[:-1] + b"x"):
        machine.path(POOL / image).write_bytes(content)
        assert _reads_image(machine)
        assert machine.path(POOL / image).read_bytes() == whole
        assert not _reads_image(machine)

    box = machine.path(HOME) / ".vagrant.d/boxes/labctl-VAGRANTSLASH-kubernetes-1.37.2/1.37.2.1/libvirt"
    (box / "metadata.json").unlink()  # as after an interrupted `vagrant box add`
    (box / "box.img").write_bytes(whole[:-1] + b"x")
    machine.virsh("vol-delete", "--pool=default", image)
    assert _drive(machine, "prepare")["volume"] == image
    assert (machine.path(POOL / image).read_bytes(), (box / "metadata.json").exists()) == (whole, True)

    _kill_while_waiting(machine)
    assert machine.path(POOL / image).owner() == libvirt_machine.HYPERVISOR
    assert not _reads_image(machine)
    assert _drive(machine, "forget")["error"] == "image-in-use"
    machine.path(POOL / image).write_bytes(whole[:-1] + b"x")
    differs = _drive(machine, "prepare")
    assert (differs["error"], "demo-worker-1.img" in differs["message"]) == ("image-differs", True)
    _drive(machine, "destroy")
    assert _drive(machine, "images") == ["labctl/kubernetes-1.37.2"]
    _drive(machine, "forget")
    assert (_drive(machine, "images"), machine.names("vol-list")) == ([], [])
    assert list(machine.path(HOME).glob(".cache/labctl/checked/*.libvirt")) == []


@pytest.mark.parametrize(
    ("place", "size", "act"),
    [(HOME / ".vagrant.d", "300k", "prepare"), (POOL, "100k", "prepare"), (POOL, "204k", "up")],
    ids=["adding the box", "uploading its image", "creating the disks"],
)
def test_a_full_disk_is_one_error_and_leaves_nothing(
    machine: LibvirtMachine, image: str, place: Path, size: str, act: str
) -> None:
    _drive(machine, "forget")
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size},uid={libvirt_machine.UID}", "tmpfs", str(place))
    machine.run("root", *mount)
    try:
        if act == "up":
            _drive(machine, "prepare")  # there is room for the image
        before = machine.names("vol-list")
        full = _drive(machine, act)
        assert (full["error"], machine.names("vol-list"), machine.names("list")) == ("disk-full", before, [])
    finally:
        machine.run("root", "umount", str(place))
    assert _drive(machine, "prepare") == {"volume": image}
    if act == "up":
        _kill_while_waiting(machine)


def test_foreign_objects_are_neither_used_nor_changed(machine: LibvirtMachine, image: str) -> None:
    _define(machine, "net-define", FOREIGN_NETWORK.format(56))
    _define(machine, "define", FOREIGN_DOMAIN.format("theirs"))
    for name in ("theirs.img", "gone.img"):
        machine.virsh("vol-create-as", "default", name, "1M")
    machine.path(POOL / "gone.img").unlink()  # libvirt does not notice this
    before = machine.virsh("dumpxml", "theirs")
    try:
        refused = _drive(machine, "up")
        assert (refused["error"], "theirs" in refused["message"]) == ("network-taken", True)
        machine.virsh("net-undefine", "theirs")
        _kill_while_waiting(machine)
        _define(machine, "net-define", FOREIGN_NETWORK.format(56))  # added after the lab's networks
        assert _drive(machine, "destroy") == {"changed": True, "left": ""}
        assert machine.names("net-list") == ["theirs"]
        assert machine.names("vol-list") == sorted([image, "theirs.img"])
        assert machine.virsh("dumpxml", "theirs") == before
    finally:
        machine.virsh("net-undefine", "theirs")
        machine.virsh("undefine", "theirs")
        machine.virsh("vol-delete", "--pool=default", "theirs.img")


def test_names_and_subnets_in_use_are_refused(machine: LibvirtMachine, image: str) -> None:
    for kind, name, text, error in (
        ("", NODES[0], FOREIGN_DOMAIN.format(NODES[0]), "machine-not-ours"),
        ("net-", NETWORKS[0], FOREIGN_NETWORK.format(77).replace(">theirs<", f">{NETWORKS[0]}<"), "network-not-ours"),
    ):
        _define(machine, f"{kind}define", text)
        described = machine.virsh(f"{kind}dumpxml", name)
        assert _drive(machine, "up")["error"] == error
        assert name in _drive(machine, "destroy")["left"]
        assert machine.virsh(f"{kind}dumpxml", name) == described
        machine.virsh(f"{kind}undefine", name)

    machine.run("root", "ip", "link", "add", "theirs0", "type", "bridge")
    machine.run("root", "ip", "address", "add", "192.168.56.1/24", "dev", "theirs0")
    machine.run("root", "ip", "link", "set", "theirs0", "up")
    refused = _drive(machine, "up")
    machine.run("root", "ip", "link", "delete", "theirs0")
    assert (refused["error"], "theirs0" in refused["message"]) == ("network-taken", True)
    assert image in machine.names("vol-list")


def test_the_nat_network_gets_a_free_subnet(machine: LibvirtMachine, image: str) -> None:
    _define(machine, "net-define", FOREIGN_NETWORK.format(130))
    _kill_while_waiting(machine)
    machine.virsh("net-undefine", "theirs")
    assert '<ip address="192.168.131.1"' in machine.virsh("net-dumpxml", NETWORKS[1]).replace("'", '"')
    assert image in machine.names("vol-list")


def test_an_unresponsive_libvirt_is_one_error(machine: LibvirtMachine, image: str) -> None:
    machine.run("root", "sh", "-c", "kill -STOP $(cat /run/libvirtd.pid)")
    silent = _drive(machine, "running", "--seconds=2")
    machine.run("root", "sh", "-c", "kill -CONT $(cat /run/libvirtd.pid)")
    machine.stop_libvirt()
    stopped = _drive(machine, "running")
    machine.start_libvirt()

    assert (silent["error"], stopped["error"]) == ("libvirt-silent", "libvirt-unreachable")
    assert image in machine.names("vol-list")
    machine.virsh("pool-destroy", "default")
    inactive = _drive(machine, "up")
    machine.virsh("pool-start", "default")
    assert inactive["error"] == "pool-inactive"


def _drive(machine: LibvirtMachine, act: str, *options: str) -> Any:  # noqa: ANN401 - JSON
    """Run the driver and return its output."""
    return json.loads(_run_driver(machine, act, *options, code=0).out)


def _reads_image(machine: LibvirtMachine) -> bool:
    """Prepare the image; return whether this read the image in the pool."""
    return CHECKING in _run_driver(machine, "prepare", code=0).err


def _kill_at(machine: LibvirtMachine, act: str, *texts: str, options: Sequence[str] = ()) -> None:
    """Run the driver until it and Vagrant are killed, once the progress has contained each of these texts."""
    finished = _run_driver(machine, act, *(f"--until={text}" for text in texts), *options, code=None)
    assert finished.code == -signal.SIGKILL, f"{finished.out}\n{finished.err}"
    assert [text for text in texts if text not in finished.err] == []


def _kill_while_waiting(machine: LibvirtMachine, *options: str) -> None:
    """Run `up` until it is killed while it waits for both machines, which boot nothing."""
    _kill_at(machine, "up", *WAITING, options=options)


def _kill_before_the_domain_exists(machine: LibvirtMachine) -> None:
    """Kill Vagrant when it has created a disk but no domain. Retry, because the kill may arrive too late."""
    for _ in range(5):
        _kill_at(machine, "up", "Creating domain with the following settings")
        if machine.names("list") == []:
            return
        _drive(machine, "destroy")
    pytest.fail("each kill came after the domain was defined")


def _run_driver(machine: LibvirtMachine, act: str, *options: str, code: int | None) -> Completed:
    path = {"PYTHONPATH": str(DRIVER.parents[1])}
    return machine.run(USER, sys.executable, str(DRIVER), act, *options, code=code, seconds=120, **path)


def _define(machine: LibvirtMachine, how: str, text: str) -> None:
    machine.path(HOME / "define.xml").write_text(text, encoding="ascii")
    machine.virsh(how, str(HOME / "define.xml"))


def _autostarted(machine: LibvirtMachine) -> list[str]:
    """Return the machines and networks that start with libvirt."""
    return [
        *machine.virsh("list", "--all", "--autostart", "--name").split(),
        *machine.virsh("net-list", "--all", "--autostart", "--name").split(),
    ]
