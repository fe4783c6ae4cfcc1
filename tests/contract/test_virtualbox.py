"""labctl and real Vagrant with a stateful double of VBoxManage 7.0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import libvirt_machine
import pytest
import vbox_lab
import vbox_ovf
from fakes import Watched, lab
from golden_files import Golden
from vbox_lab import NO_SSH, VBox

from labctl.host import paths, virtualbox
from labctl.host.machine import Machine
from labctl.machine_image import boxes, disk
from labctl.model.errors import ProviderError
from labctl.model.limits import NORMAL
from labctl.providers.protocol import LabNetwork, NodeImages, Provider, Removed
from labctl.providers.virtualbox import UNFINISHED, VirtualBoxProvider, remove_unfinished
from labctl.providers.virtualbox_images import VirtualBoxImages

LAB = lab(provider="virtualbox", workers=1)
CONTROL_PLANE, WORKER = LAB.nodes
NAMES = [CONTROL_PLANE.name, WORKER.name]
DEFAULT_SERVER = "HostInterfaceNetworking-vboxnet0"
ATTACH = ["storageattach", "{uuid}", "--port", "1", "--device", "0", "--type", "dvddrive", "--medium", "/none"]


@pytest.fixture(scope="module")
def vagrant() -> None:
    """Install Vagrant if it is missing."""
    libvirt_machine.install(("vagrant",))


@pytest.fixture
def vbox(vagrant: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VBox:  # noqa: ARG001 - installs it
    """Return a newly installed VirtualBox, first on PATH, with a temporary Vagrant home."""
    double = VBox(tmp_path, tmp_path / "vbox")
    home = tmp_path / "vagrant"
    home.mkdir()
    (home / "Vagrantfile").write_text(NO_SSH)
    monkeypatch.setenv("PATH", f"{double.install()}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VAGRANT_HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths.cache().mkdir(parents=True)
    return double


@pytest.fixture
def provider(vbox: VBox, tmp_path: Path) -> VirtualBoxProvider:  # noqa: ARG001 - puts it on PATH
    catalogue = vbox_lab.write_box(tmp_path / "box", "labctl/example", "1.37.2")
    folder = paths.state(LAB.name)
    folder.mkdir(parents=True)
    vbox_lab.write_lab(folder, catalogue, LAB)
    return VirtualBoxProvider(LAB, folder, {})


def _vboxmanage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["VBoxManage", *arguments], check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_vagrant_creates_halts_starts_and_removes_machines(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched, golden: Golden
) -> None:
    typed: Provider = provider
    typed.up(LAB.nodes, watched.report)
    golden([*vbox.normalized_calls((str(provider.folder), "LAB"))], "up")
    assert typed.running() == {*NAMES}
    for node, machine in zip(LAB.nodes, vbox.saved_state()["machines"], strict=True):
        nics = machine["nics"]
        assert isinstance(nics, dict)
        assert [nics[slot]["attached"] for slot in "123"] == ["nat", "hostonly", "none"]
        assert nics["2"]["mac"] == node.mac.replace(":", "").upper()
        assert {nics[slot]["kind"] for slot in "12"} == {"82540EM"}
        assert {nic["promiscuous"] for nic in nics.values()} == {"deny"}
    assert typed.network() == LabNetwork("vboxnet0", {node.mac: f"machine {node.name}" for node in LAB.nodes})

    vbox.forget_calls()
    typed.halt(NAMES, watched.report)
    golden([*vbox.normalized_calls()], "halt")
    assert typed.running() == frozenset()

    vbox.forget_calls()
    typed.up([CONTROL_PLANE], watched.report)
    golden([*vbox.normalized_calls((str(provider.folder), "LAB"))], "up again")
    assert typed.running() == {CONTROL_PLANE.name}

    vbox.forget_calls()
    assert typed.destroy(watched.report) == Removed(changed=True)
    golden([*vbox.normalized_calls((str(provider.folder), "LAB"))], "destroy")
    assert vbox.names() == []
    assert not (provider.folder / ".vagrant").exists()
    assert typed.destroy(watched.report) == Removed(changed=False)


@pytest.mark.slow
def test_a_box_is_added_completely_and_removed_with_unfinished_imports(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched, tmp_path: Path
) -> None:
    bundle = vbox_lab.write_bundle(tmp_path / "bundle", tmp_path / "box" / "virtualbox.box")
    images: NodeImages = VirtualBoxImages(provider.folder, {})

    for _ in range(2):
        images.prepare(bundle, watched.report)
    assert len(watched.texts) == 1
    assert images.list() == ("labctl/example",)

    disk = tmp_path / "vagrant/boxes/labctl-VAGRANTSLASH-example/1.37.2.1/virtualbox/box.vmdk"
    whole = disk.read_bytes()
    disk.write_bytes(whole[:100])
    images.prepare(bundle, watched.report)
    assert disk.read_bytes() == whole

    _import(vbox, provider, "labctl-example_1764154800123_4711")
    images.forget("labctl/example")
    images.forget("labctl/none")
    assert images.list() == ()
    assert vbox.names() == []


def _import(vbox: VBox, provider: VirtualBoxProvider, name: str) -> str:
    """Import the box as Vagrant does, and return the machine's id."""
    ovf = provider.folder / "imported" / "box.ovf"
    if not ovf.exists():
        ovf.parent.mkdir()
        shutil.copy(vbox_lab.HERE / "box.ovf", ovf)
        (ovf.parent / "box.vmdk").write_bytes(vbox_lab.vmdk_header(vbox_lab.DISK))
    assert _vboxmanage("import", str(ovf), "--vsys", "0", "--vmname", name).returncode == 0
    return str(vbox.saved_state()["machines"][-1]["uuid"])


def _record_id(folder: Path, node: str, identity: str) -> None:
    path = folder / ".vagrant" / "machines" / node / "virtualbox" / "id"
    path.parent.mkdir(parents=True)
    path.write_text(identity)


def test_only_machines_with_the_labs_mark_or_a_recorded_id_belong_to_the_lab(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched
) -> None:
    marked = _import(vbox, provider, CONTROL_PLANE.name)
    _vboxmanage("setextradata", marked, "labctl/state", str(provider.folder))
    _record_id(provider.folder, WORKER.name, _import(vbox, provider, "noted, and not named yet"))
    for name in ("demo-worker-2", "somebody's"):
        _vboxmanage("startvm", _import(vbox, provider, name))
    _vboxmanage("startvm", marked)

    assert provider.running() == {CONTROL_PLANE.name}
    assert provider.destroy(watched.report) == Removed(changed=True)
    assert vbox.names() == ["demo-worker-2", "somebody's"]


def test_a_foreign_machine_with_a_nodes_name_is_refused_before_vagrant_runs(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched
) -> None:
    foreign = _import(vbox, provider, WORKER.name)
    _vboxmanage("setextradata", foreign, "labctl/state", "/another")

    with pytest.raises(ProviderError) as raised:
        provider.up(LAB.nodes, watched.report)

    assert raised.value.id == "machine-not-ours"
    assert foreign in raised.value.hint
    assert vbox.names() == [WORKER.name]


def test_an_unfinished_import_is_removed_unless_a_lab_has_recorded_its_id(
    vbox: VBox, provider: VirtualBoxProvider
) -> None:
    _import(vbox, provider, "labctl-example_1764154800123_4711")
    _import(vbox, provider, "another-box_1764154800123_4711")
    _record_id(paths.state("another"), "another-worker-1", _import(vbox, provider, "labctl-example_1764154800124_1"))

    remove_unfinished()

    assert vbox.names() == ["another-box_1764154800123_4711", "labctl-example_1764154800124_1"]


def test_vagrants_state_keeps_the_ids_of_machines_and_no_truncated_files(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = _import(vbox, provider, CONTROL_PLANE.name)
    _vboxmanage("setextradata", marked, "labctl/state", str(provider.folder))
    unnamed = _import(vbox, provider, "labctl-example_1764154800123_4711")
    _record_id(provider.folder, CONTROL_PLANE.name, marked[:9])
    _record_id(provider.folder, WORKER.name, unnamed)
    (provider.folder / ".vagrant/machines" / WORKER.name / "virtualbox/box_meta").write_text("{")
    monkeypatch.setenv("VAGRANT_HOME", "/dev/null/none")  # so that Vagrant fails at once

    with pytest.raises(ProviderError):
        provider.up(LAB.nodes, watched.report)

    remaining = {path.parts[-3]: path.read_text() for path in provider.folder.glob(".vagrant/machines/*/*/*")}
    assert remaining == {CONTROL_PLANE.name: marked, WORKER.name: unnamed}


def test_a_machine_that_does_not_shut_down_in_time_is_powered_off(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _import(vbox, provider, WORKER.name)
    _record_id(provider.folder, WORKER.name, machine)
    _vboxmanage("startvm", machine)
    (vbox.home / "deaf").touch()
    provider.limits = replace(NORMAL, shutdown=3.0)
    monkeypatch.setattr("labctl.providers.machines.PRESS_SECONDS", 0.3)

    provider.halt([WORKER.name], watched.report)

    calls = [call[2] for call in vbox.calls if call[0] == "controlvm"]
    assert calls.count("acpipowerbutton") > 1
    assert calls[-1] == "poweroff"
    assert provider.running() == frozenset()


@pytest.mark.parametrize(
    ("state", "halts"),
    [
        ("running", [["acpipowerbutton"]]),
        ("paused", [["poweroff"]]),
        ("gurumeditation", [["poweroff"]]),
        ("saved", []),
        ("aborted", []),
        ("poweroff", []),
    ],
)
def test_a_machine_in_any_state_can_be_halted_and_destroyed(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched, state: str, halts: list[list[str]]
) -> None:
    machine = _import(vbox, provider, WORKER.name)
    _record_id(provider.folder, WORKER.name, machine)
    _vboxmanage("startvm", machine)
    saved = vbox.saved_state()
    saved["machines"][-1]["state"] = state
    (vbox.home / "double.json").write_text(json.dumps(saved))

    assert provider.running() == ({WORKER.name} if state == "running" else frozenset())
    failure = provider.failure(WORKER) if state != "running" else None
    if failure:
        assert (failure.is_running, state in failure.text, "resume" in failure.hint) == (False, True, state == "paused")
    assert provider.halt([WORKER.name], watched.report) == (frozenset({WORKER.name}) if halts else frozenset())
    assert [call[2:] for call in vbox.calls if call[0] == "controlvm"] == halts
    assert provider.destroy(watched.report) == Removed(changed=True)
    assert vbox.names() == []


def test_a_hard_stop_does_not_press_the_power_button(
    vbox: VBox, provider: VirtualBoxProvider, watched: Watched
) -> None:
    machine = _import(vbox, provider, WORKER.name)
    _record_id(provider.folder, WORKER.name, machine)
    _vboxmanage("startvm", machine)

    provider.halt([WORKER.name], watched.report, hard=True)

    assert [call for call in vbox.calls if call[0] == "controlvm"] == [["controlvm", machine, "poweroff"]]


def test_a_failure_has_the_last_lines_of_the_console(
    provider: VirtualBoxProvider, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = provider.folder / "console" / f"{WORKER.name}.log"
    console.parent.mkdir()
    console.write_text("booting\r\nlabctl: no seed\r\n")
    monkeypatch.setenv("VAGRANT_HOME", "/dev/null/none")  # so that Vagrant fails at once

    with pytest.raises(ProviderError) as raised:
        provider.up([WORKER], watched.report)

    assert raised.value.details[-1] == f"{WORKER.name}: labctl: no seed"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["modifyvm", "{uuid}", "--nic2", "hostonlyif"], 2, "Invalid type"),
        (["modifyvm", "{uuid}", "--hostonlyadapter2", "vboxnet7"], 1, "E_INVALIDARG"),
        (["modifyvm", "{uuid}", "--macaddress2", "02:00:00:00:00:01"], 1, "Invalid MAC address format"),
        (["modifyvm", "{uuid}", "--macaddress2", "010000000001"], 1, "Invalid MAC address format"),
        (["modifyvm", "{uuid}", "--nested-paging", "on"], 2, "Unknown option"),
        (["modifyvm", "{uuid}", "--natpf1", "delete", "http"], 1, "E_INVALIDARG"),
        ([*ATTACH, "--storagectl", "SATA Controller"], 1, "Could not find a controller named"),
        ([*ATTACH, "--storagectl", "SATA"], 1, "VERR_FILE_NOT_FOUND"),
        (["startvm", "another"], 1, "VBOX_E_OBJECT_NOT_FOUND"),
        (["controlvm", "{uuid}", "poweroff"], 1, "is not currently running"),
        (
            ["hostonlyif", "ipconfig", "vboxnet0", "--ip", "10.20.0.1", "--netmask", "255.255.255.0"],
            1,
            "E_ACCESSDENIED",
        ),
        (
            ["hostonlyif", "ipconfig", "vboxnet0", "--ip", "192.168.56.1", "--netmask", "255.255.0.0"],
            1,
            "E_ACCESSDENIED",
        ),
        (["dhcpserver", "add", "--ifname", "vboxnet0", "--ip", "192.168.56.2", "--enable"], 2, "already exists"),
        (["dhcpserver", "remove", "--netname", "HostInterfaceNetworking-vboxnet3"], 2, "does not exist"),
        (["list", "everything"], 2, "Unknown subcommand"),
        (["teleport"], 2, "Invalid command"),
    ],
    ids=lambda value: " ".join(value[:1] + value[2:3]) if isinstance(value, list) else "",
)
def test_the_double_refuses_what_virtualbox_refuses(
    vbox: VBox, provider: VirtualBoxProvider, arguments: list[str], code: int, error: str
) -> None:
    uuid = _import(vbox, provider, "machine")
    _vboxmanage("hostonlyif", "create")
    before = vbox.saved_state()

    finished = _vboxmanage(*(argument.format(uuid=uuid) for argument in arguments))

    assert finished.returncode == code
    assert error in finished.stderr
    assert finished.stderr.startswith("VBoxManage: error: ")
    assert vbox.saved_state() == before


@pytest.mark.parametrize(
    ("allowed", "code"), [("* 10.20.0.0/16\n", 0), ("# * 10.20.0.0/16\n* 192.168.0.0/16\n", 1), ("", 1)]
)
def test_the_double_allows_the_host_only_networks_of_its_file(vbox: VBox, allowed: str, code: int) -> None:
    _vboxmanage("hostonlyif", "create")
    (vbox.home / "networks.conf").write_text(allowed)
    moved = _vboxmanage("hostonlyif", "ipconfig", "vboxnet0", "--ip", "10.20.0.1", "--netmask", "255.255.255.0")

    assert moved.returncode == code
    assert vbox.saved_state()["interfaces"][0]["address"] == ("192.168.56.1" if code else "10.20.0.1")


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("<rasd:ResourceSubType>AHCI", "<rasd:ResourceSubType>SATA"),
        ('ovf:capacity="21474836480"', ""),
        ('ovf:capacity="21474836480"', 'ovf:capacity="21474836481"'),
        ("ovf:/disk/disk1", "ovf:/disk/disk2"),
        ("<rasd:Parent>3<", "<rasd:Parent>9<"),
        ("byte * 2^20", "MiB"),
        ("<rasd:InstanceID>5</rasd:InstanceID>", ""),
        ('<OperatingSystemSection ovf:id="96">', "<OperatingSystemSection>"),
        ('ovf:href="box.vmdk"', 'ovf:href="none.vmdk"'),
        ("</Envelope>", ""),
    ],
)
def test_an_incomplete_appliance_is_refused(vbox: VBox, tmp_path: Path, written: str, instead: str) -> None:
    text = (vbox_lab.HERE / "box.ovf").read_text()
    assert written in text
    (tmp_path / "box.ovf").write_text(text.replace(written, instead))
    (tmp_path / "box.vmdk").write_bytes(vbox_lab.vmdk_header(vbox_lab.DISK))

    finished = _vboxmanage("import", str(tmp_path / "box.ovf"))

    assert finished.returncode == 1
    assert "VBOX_E_FILE_ERROR" in finished.stderr
    assert not (vbox.home / "double.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("connected", [NAMES[0], "somebody's"])
def test_fix_removes_the_dhcp_server_of_the_labs_network_unless_another_machine_uses_it(
    vbox: VBox, provider: VirtualBoxProvider, tmp_path: Path, connected: str
) -> None:
    machine = _import(vbox, provider, connected)
    _vboxmanage("hostonlyif", "create")
    _vboxmanage("modifyvm", machine, "--nic2", "hostonly", "--hostonlyadapter2", "vboxnet0")
    (tmp_path / "labctl.yaml").write_text("provider: virtualbox\n")
    doctor = [sys.executable, "-m", "labctl", "-o", "json", "doctor"]

    before_fix = _checks([*doctor], tmp_path)
    fixed = _checks([*doctor, "--fix"], tmp_path)

    is_alone = connected in NAMES
    assert before_fix["virtualbox-dhcp"]["state"] == "broken"
    assert fixed["virtualbox-dhcp"]["fixed"] is is_alone
    assert fixed["virtualbox-members"]["state"] == ("ok" if is_alone else "broken")
    assert [server["network"] for server in vbox.saved_state()["servers"]] == ([] if is_alone else [DEFAULT_SERVER])
    _vboxmanage("startvm", machine)
    assert (vbox.home / "leasing").exists() is not is_alone, "VirtualBox starts the server with the first machine"


def _checks(line: list[str], folder: Path) -> dict[str, dict[str, object]]:
    report = json.loads(subprocess.run(line, cwd=folder, capture_output=True, check=False).stdout)
    return {check["id"]: check for check in report["checks"]}


def test_the_box_has_the_hardware_that_the_vagrantfile_expects(tmp_path: Path) -> None:
    (tmp_path / "box.ovf").write_text(boxes.ovf("kubernetes-1.37.2-amd64-e67446f6", 480 << 20))
    (tmp_path / boxes.VMDK).write_bytes(vbox_lab.vmdk_header(disk.CAPACITY))

    appliance = vbox_ovf.read(tmp_path / "box.ovf")

    assert UNFINISHED.fullmatch(f"{appliance.name}_1764154800123_4711"), "Vagrant's name for an import"
    assert vbox_ovf.vmdk_capacity(appliance.disk) == appliance.capacity == disk.CAPACITY
    assert [kind for _id, kind in appliance.controllers] == ["SATA"]
    assert appliance.adapters[0] == ("NAT", "NAT", "82540EM")
    assert appliance.os_type == "Debian_64"


def test_the_double_lists_in_the_recorded_formats(vbox: VBox) -> None:
    _vboxmanage("hostonlyif", "create")

    assert [(server.network, str(server.first)) for server in virtualbox.servers(Machine())] == [
        (DEFAULT_SERVER, "192.168.56.101")
    ]
    assert {str(address): name for address, name in virtualbox.addresses(Machine()).items()} == {
        "192.168.56.1": "vboxnet0"
    }
    assert vbox.calls
