"""A program that drives the libvirt provider; tests run it as a user of a machine with its own libvirt.

Its lab's machines have an empty disk, from a box of a few kilobytes, and boot nothing. It prints the outcome as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from e2e.reallab import run
from fakes import MACHINE, bundle, lab

from labctl.bundle import Bundle, File
from labctl.host import lab_folder, paths
from labctl.host.files import write
from labctl.machine_image import format as machine_image
from labctl.machine_image.format import CATALOGUE, DISK_IN_BOX, FOLDER, LIBVIRT_BOX, Disk, MachineImage, box_name
from labctl.machine_image.seed import READABLE, SeedFile
from labctl.machine_image.seed import write as write_seed
from labctl.model.errors import LabError
from labctl.model.lab import Role
from labctl.providers import virsh
from labctl.providers.libvirt import LibvirtProvider
from labctl.providers.libvirt_images import LibvirtImages, volume
from labctl.render.node_files import Box, Credentials, Supplies, lab_files

LAB = replace(lab(provider="libvirt", cpus=1), memory=128)
CAPACITY = 16 << 20
VERSION = "1.37.2.1"


def main() -> None:
    """Run the act that the command line names; write the outcome, or the error, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=[name.removeprefix("do_") for name in globals() if name.startswith("do_")])
    parser.add_argument(
        "--until",
        action="append",
        default=[],
        help="kill Vagrant and this process once the progress has contained each of these texts",
    )
    parser.add_argument("--interrupt", action="store_true", help="press Ctrl-C instead of killing")
    parser.add_argument("--seconds", type=float, default=virsh.SECONDS, help="time limit of libvirt's commands")
    parser.add_argument("--soft", dest="hard", action="store_false", help="shut down by the power buttons")
    parser.add_argument("--seed", default="first", help="content of the seeds")
    options = parser.parse_args()
    virsh.SECONDS = options.seconds
    os.umask(0o077)  # the provider must still make files for libvirt and QEMU readable
    lab = DrivenLab(paths.private_folder(paths.state(LAB.name)), options)
    try:
        outcome = globals()[f"do_{options.act}"](lab)
    except LabError as error:
        outcome = {"error": error.id, "message": "\n".join((error.message, *error.details))}
    json.dump(outcome, sys.stdout)


@dataclass(frozen=True)
class DrivenLab:
    """The lab in its folder, with the options of the command line."""

    folder: Path
    options: argparse.Namespace

    @property
    def provider(self) -> LibvirtProvider:
        return LibvirtProvider(LAB, self.folder, {})

    @property
    def images(self) -> LibvirtImages:
        return LibvirtImages(self.folder, {})

    def report(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        if self.options.until:
            self.options.until = [each for each in self.options.until if each not in text]
            if not self.options.until:
                signal.raise_signal(signal.SIGINT) if self.options.interrupt else _kill_everything()


def do_prepare(lab: DrivenLab) -> Any:  # noqa: ANN401 - any JSON value, also below
    lab.images.prepare(_bundle(), lab.report)
    return {"volume": volume(_image(_bundle()))}


def do_up(lab: DrivenLab) -> Any:  # noqa: ANN401
    _render(lab.folder, lab.options.seed)
    lab.provider.up(LAB.nodes, lab.report)
    return do_running(lab)


def do_running(lab: DrivenLab) -> Any:  # noqa: ANN401
    return sorted(lab.provider.running())


def do_halt(lab: DrivenLab) -> Any:  # noqa: ANN401
    provider = lab.provider
    provider.limits = replace(provider.limits, shutdown=1.0)  # no operating system reacts to the button
    halted = provider.halt([node.name for node in LAB.nodes], lab.report, hard=lab.options.hard)
    return {"halted": sorted(halted), "running": do_running(lab)}


def do_destroy(lab: DrivenLab) -> Any:  # noqa: ANN401
    removed = lab.provider.destroy(lab.report)
    return {"changed": removed.changed, "left": removed.left}


def do_forget(lab: DrivenLab) -> Any:  # noqa: ANN401
    lab.images.forget(box_name(_bundle().id))


def do_images(lab: DrivenLab) -> Any:  # noqa: ANN401
    return list(lab.images.list())


def do_network(lab: DrivenLab) -> Any:  # noqa: ANN401
    network = lab.provider.network()
    return None if network is None else {"interface": network.interface, "members": dict(network.members)}


def do_logs(lab: DrivenLab) -> Any:  # noqa: ANN401
    return {name: list(lines) for name, lines in lab.provider.collect_logs(LAB.nodes[0], ()).items()}


def _kill_everything() -> None:
    """Kill Vagrant and this process without any cleanup, as a power cut would."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _bundle() -> Bundle:
    """Return a bundle with a machine image whose disk is empty; create the image if it is missing."""
    carried = bundle(Path.home() / "bundle")
    if machine_image.load(carried) is None:
        machine_image.write(_image(carried), carried.path(FOLDER))
    return carried


def _image(carried: Bundle) -> MachineImage:
    folder = carried.path(FOLDER)
    disk, box = folder / DISK_IN_BOX, carried.path(LIBVIRT_BOX)
    if not box.exists():
        folder.mkdir(exist_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", str(disk), str(CAPACITY))
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": 1}
        (folder / "box.json").write_text(json.dumps(metadata), encoding="ascii")
        with tarfile.open(box, "w") as archive:
            archive.add(disk, DISK_IN_BOX)
            archive.add(folder / "box.json", "metadata.json")
    content, described = box.read_bytes(), disk.read_bytes()
    qcow2 = Disk(CAPACITY, len(described), hashlib.sha256(described).hexdigest())
    file = File(LIBVIRT_BOX, hashlib.sha256(content).hexdigest(), len(content), "a test")
    return MachineImage(carried.folder, carried.id, VERSION, "6.12", qcow2.sha256, qcow2, (file,))


def _render(folder: Path, text: str) -> None:
    """Write the lab's Vagrantfile, and seeds with this content."""
    carried = _bundle()
    supplies = Supplies(
        folder=carried.folder,
        id=carried.id,
        versions=carried.versions,
        pause_image="pause",
        node_image="",
        box=Box(box_name(carried.id), VERSION, carried.path(CATALOGUE)),
        archives={role: carried.archives(role) for role in Role},
    )
    files = lab_files(LAB, "libvirt", replace(MACHINE, kvm=False), supplies, Credentials("", "", "", ""))
    (folder / lab_folder.VAGRANTFILE).write_text(files[lab_folder.VAGRANTFILE], encoding="utf-8")
    write(folder / lab_folder.SSH_KEY, b"no key: Vagrant looks whether the file is there")
    for node in LAB.nodes:
        write_seed(folder / lab_folder.seed(node.name), {"text": SeedFile(text.encode(), READABLE)})


if __name__ == "__main__":
    main()
