"""Files, a box and a home for a VirtualBox lab that real Vagrant boots with the double of VBoxManage."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fakes import IMAGES, MACHINE, VERSIONS

from labctl.bundle import Bundle
from labctl.bundle.checksums import sha256
from labctl.bundle.format import File
from labctl.host import lab_folder
from labctl.machine_image import format as machine_image
from labctl.machine_image.format import VIRTUALBOX_BOX
from labctl.model.lab import Lab
from labctl.render.node_files import Box, Credentials, Supplies, lab_files

HERE = Path(__file__).parent
DISK = 20 << 30
SECTOR = 512
NO_SSH = """\
class NoSSH < Vagrant.plugin("2", :communicator)
  def self.match?(_machine) = true
  def ready? = true
  def test(*) = true
  def execute(*) = 0
  def sudo(*) = 0
end
class NoSSHPlugin < Vagrant.plugin("2")
  name "no-ssh"
  communicator(:no_ssh) { NoSSH }
end
Vagrant.configure("2") do |config|
  config.vm.communicator = :no_ssh
  config.vm.graceful_halt_timeout = 1
end
"""
"""A user's Vagrantfile for machines that are not booted: every command in them reports success."""
CHANGING = (
    (re.compile(r"127\.0\.0\.1,\d+,,22"), "127.0.0.1,PORT,,22"),
    (re.compile(r"_\d{13}_\d{1,5}"), "_TIME_RANDOM"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
)


@dataclass(frozen=True)
class VBox:
    """The double's state, and its program for PATH."""

    folder: Path
    home: Path

    def install(self, *, acceleration: str = "") -> Path:
        """Write the program, which sets the double's variables, and return its folder."""
        programs = self.folder / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        boots = f"VBOX_DOUBLE_BOOTS={acceleration} " if acceleration else ""
        line = f'{boots}VBOX_USER_HOME={self.home} exec {sys.executable} -ES {HERE}/vboxmanage.py "$@"'
        (programs / "VBoxManage").write_text(f"#!/bin/sh\n{line}\n")
        (programs / "VBoxManage").chmod(0o755)
        return programs

    @property
    def calls(self) -> list[list[str]]:
        path = self.home / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def normalized_calls(self, *hidden: tuple[str, str]) -> list[str]:
        """Return the calls as lines, without what differs between runs: ids, ports and the number of repeated calls."""
        return [call for call, _ in groupby(self._normalized(" ".join(call), hidden) for call in self.calls)]

    def forget_calls(self) -> None:
        (self.home / "calls").unlink(missing_ok=True)

    def saved_state(self) -> dict[str, list[dict[str, object]]]:
        saved: dict[str, list[dict[str, object]]] = json.loads((self.home / "double.json").read_text())
        return saved

    def names(self) -> list[object]:
        return [machine["name"] for machine in self.saved_state()["machines"]]

    def power_off(self) -> None:
        """Kill the machines that a failed test left running."""
        if (self.home / "double.json").exists():
            for machine in self.saved_state()["machines"]:
                if pid := machine["pid"]:
                    with suppress(ProcessLookupError):
                        os.kill(int(str(pid)), signal.SIGKILL)

    def _normalized(self, call: str, hidden: tuple[tuple[str, str], ...]) -> str:
        for text, placeholder in (*hidden, (str(self.home), "HOME"), (str(self.folder), "FOLDER")):
            call = call.replace(text, placeholder)
        for pattern, placeholder in CHANGING:
            call = pattern.sub(placeholder, call)
        return call


def write_box(folder: Path, name: str, version: str, vmdk: Path | None = None, ovf: Path = HERE / "box.ovf") -> Path:
    """Write a box, with an empty disk if none is given, and its catalogue; return the catalogue."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "virtualbox.box", "w") as box:
        files = {"metadata.json": b'{"provider": "virtualbox", "architecture": "amd64"}', "box.ovf": ovf.read_bytes()}
        if vmdk is None:
            files["box.vmdk"] = vmdk_header(DISK)
        else:
            box.add(vmdk, "box.vmdk")
        for each, content in files.items():
            entry = tarfile.TarInfo(each)
            entry.size = len(content)
            box.addfile(entry, io.BytesIO(content))
    provider = {"name": "virtualbox", "url": (folder / "virtualbox.box").as_uri(), "architecture": "amd64"}
    catalogue = {"name": name, "versions": [{"version": version, "providers": [provider]}]}
    (folder / "metadata.json").write_text(json.dumps(catalogue))
    return folder / "metadata.json"


def write_bundle(folder: Path, box: Path) -> Bundle:
    """Write a bundle that contains only a machine image with this box for VirtualBox."""
    bundle = Bundle(folder, "example", "build", "amd64", VERSIONS, IMAGES, "labctl.local/nginx:1", ())
    target = bundle.path(VIRTUALBOX_BOX)
    target.parent.mkdir(parents=True)
    shutil.copy(box, target)
    file = File(VIRTUALBOX_BOX, sha256(target), target.stat().st_size, "a test")
    qcow2 = machine_image.Disk(DISK, 0, "")
    image = machine_image.MachineImage(folder, bundle.id, "1.37.2.1", "6.12", "", qcow2, (file,))
    machine_image.write(image, target.parent)
    return bundle


def vmdk_header(size: int) -> bytes:
    """Return the first sector of a sparse VMDK of this many bytes: magic, version, flags, capacity."""
    head = (
        b"KDMV" + (3).to_bytes(4, "little") + (0x30001).to_bytes(4, "little") + (size // SECTOR).to_bytes(8, "little")
    )
    return head.ljust(SECTOR, b"\0")


def write_lab(folder: Path, catalogue: Path, wanted: Lab) -> None:
    """Write the files that Vagrant reads: the Vagrantfile, dummy seeds of the nodes and a key."""
    bundle = Bundle(folder, "example", "build", "amd64", VERSIONS, IMAGES, "labctl.local/nginx:1", ())
    supplies = Supplies(
        folder=folder,
        id="example",
        versions=VERSIONS,
        pause_image="labctl.local/pause:1.0",
        node_image="labctl.local/node:1",
        box=box(catalogue),
        archives={node.role: bundle.archives(node.role) for node in wanted.nodes},
    )
    files = lab_files(
        wanted, "virtualbox", MACHINE, supplies, Credentials("CA", "key", "abcdef.0123456789abcdef", "ssh")
    )
    files |= {lab_folder.seed(node.name): "seed" for node in wanted.nodes}
    for path, content in {**files, lab_folder.SSH_KEY: "key"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    (folder / lab_folder.SSH_KEY).chmod(0o600)


def box(catalogue: Path) -> Box:
    """Return the box of a catalogue."""
    document = json.loads(catalogue.read_text())
    return Box(document["name"], document["versions"][0]["version"], catalogue)
