"""The disk of a machine image boots on the hardware of libvirt and of VirtualBox, as far as its seed allows."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import bolt
import pytest

from labctl import bundle as bundles
from labctl import machine_image
from labctl.bundle import Bundle
from labctl.host import paths
from labctl.host.wait import Pending, until
from labctl.machine_image import boxes, build, disk, seed, system
from labctl.machine_image.format import DISK_IN_BOX, LIBVIRT_BOX, VIRTUALBOX_BOX
from labctl.machine_image.seed import SeedFile
from labctl.machine_image.tools import find_tools

pytestmark = pytest.mark.e2e

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
BOOT_SECONDS = 240.0
"""Without KVM, on a busy machine."""
REFUSED = "stays off the network"
UNIT = """\
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo it is $(hostname), grown to $(df --output=size -B1G / | tail -1 | tr -d " ")G'
StandardOutput=journal+console
"""
LARGER = 24 << 30
WHEN = frozenset({b"createdat", b"updatedat"})
"""The keys of containerd's databases whose values are times, which differ from build to build."""
QEMU = ("qemu-system-x86_64", "-accel", "tcg", "-cpu", "Westmere", "-m", "1024", "-display", "none", "-monitor", "none")


@pytest.fixture(scope="module")
def built_bundle(bundle: Path) -> Bundle:
    for program in ("qemu-system-x86_64", "qemu-img"):
        if shutil.which(program) is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{program} is not installed")
    carried = bundles.load(bundle)
    build.build(carried, paths.cache(), print)
    return carried


@pytest.fixture(scope="module")
def drive(built_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an overlay of the box's disk that is larger than the disk, as a hypervisor's volume may be."""
    folder = tmp_path_factory.mktemp("machine")
    with tarfile.open(built_bundle.path(LIBVIRT_BOX)) as box:
        box.extract(DISK_IN_BOX, folder, filter="data")
    overlay = folder / "overlay.qcow2"
    words = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", DISK_IN_BOX, "-F", "qcow2", str(overlay), str(LARGER))
    subprocess.run(words, check=True, cwd=folder)
    return overlay


@pytest.fixture
def serial(tmp_path: Path) -> Path:
    return tmp_path / "serial"


def console(serial: Path, expected: str, *hardware: str) -> str:
    """Boot a machine with this hardware, and return its serial console once it has the expected text."""

    def output() -> str | Pending:
        text = serial.read_text(errors="replace") if serial.exists() else ""
        assert machine.poll() is None, text
        return text if expected in text else Pending(f"its last words are {text[-500:]}")

    with subprocess.Popen([*QEMU, "-serial", f"file:{serial}", *hardware]) as machine:
        try:
            return until(output, what=expected, timeout=BOOT_SECONDS, interval=0.5)
        finally:
            machine.kill()


def test_the_disk_boots_by_bios_from_virtio_and_stays_off_the_network_without_a_seed(drive: Path, serial: Path) -> None:
    text = console(serial, REFUSED, "-drive", f"file={drive},if=virtio,snapshot=on", "-nic", "none")
    assert "has no seed" in text


def test_the_disk_boots_by_uefi_from_ahci_as_in_virtualbox(drive: Path, serial: Path, tmp_path: Path) -> None:
    if not FIRMWARE.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("ovmf is not installed")
    variables = shutil.copy(VARIABLES, tmp_path / "variables")
    text = console(
        serial,
        REFUSED,
        *("-machine", "q35", "-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=disk,bus=sata.0"),
        *("-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
        *("-drive", f"file={drive},if=none,id=disk,snapshot=on"),
        *("-nic", "user,restrict=on,model=e1000", "-nic", "none"),
    )
    assert "has no seed" in text


def test_a_seed_gives_a_machine_its_identity_and_that_of_another_lab_is_refused(
    drive: Path, serial: Path, tmp_path: Path
) -> None:
    for lab in ("school", "other"):
        files = {
            "lab-id": lab,
            "hostname": "node-of-school\n",
            "hosts": "127.0.0.1 localhost\n",
            "resolv.conf": "",
            "lab.network": "[Match]\nMACAddress=02:00:00:00:00:01\n",
            "kubelet.service": "[Service]\nExecStart=/bin/true\n",
            "labctl-node.service": UNIT,
        }
        seed.write(tmp_path / f"{lab}.iso", {name: SeedFile(text.encode()) for name, text in files.items()})

    def boot(lab: str, expected: str) -> str:
        return console(
            serial.with_name(lab),
            expected,
            *("-smp", "2", "-drive", f"file={drive},if=virtio,cache=unsafe"),
            *("-drive", f"file={tmp_path / lab}.iso,media=cdrom,if=ide", "-nic", "none"),
        )

    assert f"it is node-of-school, grown to {LARGER >> 30}G" in boot("school", "grown to")
    assert "of another lab" in boot("other", REFUSED)


@pytest.mark.sweep
def test_the_same_packages_give_the_same_disk_except_for_times_in_containerds_databases(
    built_bundle: Bundle, tmp_path: Path
) -> None:
    tools = find_tools(paths.cache(), print)
    contents = []
    for number in ("first", "second"):
        archive = tmp_path / f"{number}.tar"
        system.make(built_bundle, tools, archive)
        with tarfile.open(archive) as tar:
            contents.append(
                {
                    member.name: (
                        member.type,
                        member.mode,
                        member.uid,
                        member.mtime,
                        member.size,
                        member.linkname,
                        digest,
                    )
                    for member in tar
                    for digest in [_digest(tar, member)]
                }
            )
    assert contents[0] == contents[1]

    # From the same system, every byte is the same, up to the disks of both boxes.
    for number in ("a", "b"):
        folder = tmp_path / number  # a VMDK contains its own name
        folder.mkdir()
        disk.make(tools, tmp_path / "first.tar", b"initrd", built_bundle.id, folder / "raw")
        boxes.make_qcow2(tools, folder / "raw", folder / "qcow2")
        boxes.write_libvirt_box(folder / "qcow2", folder / "box")
        boxes.make_vmdk(tools, folder / "box", 7, folder / "vmdk")
    assert disk.content_sha256(tmp_path / "a/raw") == disk.content_sha256(tmp_path / "b/raw")
    for kind in ("qcow2", "box", "vmdk"):
        assert (tmp_path / "a" / kind).read_bytes() == (tmp_path / "b" / kind).read_bytes()


@pytest.mark.sweep
def test_vagrant_adds_both_boxes_from_the_catalogue(built_bundle: Bundle, tmp_path: Path) -> None:
    image = build.build(built_bundle, paths.cache(), print, ("libvirt", "virtualbox"))
    machine_image.verify(built_bundle, image, paths.cache(), print)
    environment = {**os.environ, "VAGRANT_HOME": str(tmp_path)}
    for provider in image.providers:
        words = ("vagrant", "box", "add", "--provider", provider, "metadata.json")
        subprocess.run(words, check=True, cwd=built_bundle.path("machine"), env=environment)
    listed = subprocess.run(("vagrant", "box", "list"), check=True, env=environment, stdout=subprocess.PIPE, text=True)
    assert listed.stdout.count(f"{machine_image.box_name(built_bundle.id)} ") == len(image.providers)
    with tarfile.open(built_bundle.path(VIRTUALBOX_BOX)) as box:
        assert {"box.ovf", boxes.VMDK, "metadata.json", "Vagrantfile"} == set(box.getnames())


def _digest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    """Return a hash of a file's content; for containerd's databases, of everything except times."""
    file = tar.extractfile(member) if member.isfile() else None
    if file is None:
        return 0
    if member.name.endswith(("/meta.db", "/metadata.db")):
        return hash(frozenset(item for item in bolt.items(file.read()).items() if item[0][-1] not in WHEN))
    return hash(file.read())
