"""A VirtualBox node: the box boots on VirtualBox's hardware, emulated by QEMU, under the control of real Vagrant.

`VBoxManage` is the double of tests/doubles. Whether a cluster comes up in such nodes does not depend on VirtualBox.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt_machine
import pytest
import vbox_lab
import vbox_qemu
from fakes import lab
from vbox_lab import VBox

from labctl.bundle import load
from labctl.context import Context
from labctl.host import lab_folder, paths
from labctl.machine_image import format as machine_image
from labctl.machine_image.build import build
from labctl.plans import lab_files
from labctl.providers.virtualbox import VirtualBoxProvider
from labctl.render import node_files, pki

pytestmark = pytest.mark.e2e

LAB = replace(lab(provider="virtualbox", workers=1), memory=1536)
NODE = LAB.nodes[1]
"""The worker: it only waits for its control plane, and leaves the processor to the test."""
ACCELERATION = "tcg,thread=multi,tb-size=512"
SECONDS = 400.0
PROGRAMS = ("vagrant", "qemu-system-x86_64", "qemu-img")
QUESTIONS = {
    "name": "hostname",
    "addresses": "ip -json address show",
    "lab": "cat /var/lib/labctl/lab-id",
    "unit": "systemctl is-active labctl-node.service",
    "firmware": "[ -d /sys/firmware/efi ] && echo UEFI || echo BIOS",
    "disk": "df --output=size --block-size=1G / | tail -1",
    "modes": "sudo stat --format %a /etc/labctl/kubeadm.yaml",
}


@dataclass(frozen=True)
class Node:
    """The node, accessed through Vagrant and the double."""

    vbox: VBox
    folder: Path
    environment: dict[str, str]

    def run(self, *line: str) -> str:
        completed = subprocess.run(
            line, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert completed.returncode == 0, f"{' '.join(line)}\n{completed.stdout}{completed.stderr}\n{self.console()}"
        return completed.stdout

    def console(self) -> str:
        return (self.folder / lab_folder.console(NODE.name)).read_text(errors="replace")[-2000:]

    def answers(self) -> dict[str, str]:
        """Run all commands in one SSH session over the forwarded port: without KVM, each session takes seconds."""
        questions = "; ".join(f"echo '@{name}'; {question}" for name, question in QUESTIONS.items())
        output = self.run("vagrant", "ssh", NODE.name, "--command", questions)
        parts = [each.partition("\n") for each in output.split("@")[1:]]
        return {name.strip(): answer.strip() for name, _, answer in parts}

    def controls(self) -> list[str]:
        return [call[2] for call in self.vbox.calls if call[0] == "controlvm"]


@pytest.fixture(scope="module")
def catalogue(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the bundle's boxes if they are missing, and return their catalogue."""
    libvirt_machine.install((*PROGRAMS, vbox_qemu.FIRMWARE))
    image = build(load(bundle), paths.cache(), print, ("virtualbox",))
    path = tmp_path_factory.mktemp("box") / "metadata.json"
    path.write_text(machine_image.catalogue(image, f"{image.path(machine_image.FOLDER).as_uri()}/"))
    return path


@pytest.fixture
def node(bundle: Path, catalogue: Path, tmp_path: Path, state_home: Path) -> Iterator[Node]:
    """Yield a node with an empty VirtualBox, and with a lab's folder that has everything that its machines read."""
    vbox = VBox(tmp_path, state_home / "vbox")
    folder = state_home / "virtualbox"
    folder.mkdir()
    pki.ensure(folder, LAB)
    context = Context(LAB, folder, paths.cache(), bundle)
    supplies = replace(lab_files.supplies(context), box=vbox_lab.box(catalogue))
    machine = lab_files.machine(context)
    files = node_files.lab_files(LAB, "virtualbox", machine, supplies, lab_files.credentials(folder))
    for path, content in {**files, lab_folder.console(NODE.name): ""}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    lab_files._write_seed(folder, NODE, files)
    programs = vbox.install(acceleration=ACCELERATION)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "VAGRANT_HOME": str(state_home / "vagrant"),
    }
    yield Node(vbox, folder, environment)
    vbox.power_off()


def test_vagrant_boots_halts_boots_again_and_removes_a_node(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.run("vagrant", "up", NODE.name, "--provider=virtualbox")
    first = node.answers()

    assert first["name"] == NODE.name
    assert first["firmware"] == "BIOS"
    assert first["lab"].split()[0] == LAB.name
    assert first["unit"] in {"active", "activating"}
    assert first["modes"] == "400"
    assert int(first["disk"]) >= 18
    assert _addresses(first)[NODE.mac] == f"{NODE.address}/24"
    assert len(_addresses(first)) == 2, "the other is the lease of VirtualBox's NAT"

    node.run("vagrant", "halt", NODE.name)
    assert node.controls() == [], "it shut itself down"
    node.run("VBoxManage", "modifyvm", NODE.name, "--firmware", "efi")
    node.run("vagrant", "up", NODE.name, "--provider=virtualbox")
    second = node.answers()
    assert second == {**first, "firmware": "UEFI", "addresses": second["addresses"]}
    assert _addresses(second) == _addresses(first)

    monkeypatch.setenv("PATH", node.environment["PATH"])
    VirtualBoxProvider(replace(LAB, slowness=4), node.folder, {}).halt([NODE.name], print)
    assert set(node.controls()) == {"acpipowerbutton"}, "it reacts to the power button"

    node.run("vagrant", "destroy", "--force", NODE.name)
    assert node.vbox.names() == []
    assert list((node.vbox.home / "VirtualBox VMs").iterdir()) == []


def _addresses(answers: dict[str, str]) -> dict[str, str]:
    """Return the IPv4 address of each Ethernet interface, by its MAC."""
    return {
        each["address"]: f"{info['local']}/{info['prefixlen']}"
        for each in json.loads(answers["addresses"])
        for info in each["addr_info"]
        if each["link_type"] == "ether" and info["family"] == "inet"
    }
