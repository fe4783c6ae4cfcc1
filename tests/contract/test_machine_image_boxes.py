"""Both boxes contain the same disk, and repeated builds have the same bytes."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import packages
import pytest

from labctl.machine_image import boxes
from labctl.machine_image.format import DISK_IN_BOX
from labctl.machine_image.tools import Tools

SIZE = 64 << 20
IDENTITY = 0xE67446F6


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Tools with this machine's qemu-img instead of the downloaded one."""
    packages.install(("qemu-img",), ("qemu-utils",))
    (tmp_path / "tools" / "bin").mkdir(parents=True)
    (tmp_path / "tools" / "bin" / "qemu-img").symlink_to(str(shutil.which("qemu-img")))
    return Tools(tmp_path / "tools")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        for place in range(0, SIZE, SIZE // 8):
            file.seek(place)
            file.write(bytes(range(256)) * 4096)
        file.truncate(SIZE)
    return path


def test_boxes_are_reproducible_and_have_the_same_disk(tools: Tools, raw: Path, tmp_path: Path) -> None:
    builds = []
    for number in ("first", "second"):
        folder = tmp_path / number
        folder.mkdir()
        qcow2, box, vmdk = folder / "disk.qcow2", folder / "libvirt.box", folder / boxes.VMDK
        described = boxes.make_qcow2(tools, raw, qcow2)
        boxes.write_libvirt_box(qcow2, box)
        boxes.make_vmdk(tools, box, IDENTITY, vmdk)
        boxes.write_virtualbox_box(vmdk, "kubernetes-1.37.2", folder / "virtualbox.box")
        builds.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        assert described.size == len(builds[-1]["disk.qcow2"])
    assert builds[0] == builds[1]

    back = tmp_path / "back.raw"
    subprocess.run(("qemu-img", "convert", "-O", "raw", str(tmp_path / "first" / boxes.VMDK), str(back)), check=True)
    assert back.read_bytes() == raw.read_bytes()
    vmdk_header = builds[0][boxes.VMDK]
    assert struct.unpack_from("<Q", vmdk_header, 12) == (SIZE // 512,)  # the capacity, in sectors
    assert f"\nCID={IDENTITY:08x}\n".encode() in vmdk_header[: 64 << 10]


def test_a_box_has_the_files_that_vagrants_providers_read(tools: Tools, raw: Path, tmp_path: Path) -> None:
    qcow2, box = tmp_path / "disk.qcow2", tmp_path / "libvirt.box"
    boxes.make_qcow2(tools, raw, qcow2)
    boxes.write_libvirt_box(qcow2, box)
    boxes.write_virtualbox_box(raw, "kubernetes-1.37.2", tmp_path / "virtualbox.box")

    for name, provider, members in (
        ("libvirt.box", "libvirt", {DISK_IN_BOX}),
        ("virtualbox.box", "virtualbox", {"box.ovf", boxes.VMDK}),
    ):
        with tarfile.open(tmp_path / name) as archive:
            content = archive.extractfile("metadata.json")
            assert content is not None
            described = json.load(content)
            assert set(archive.getnames()) == {"metadata.json", "Vagrantfile", *members}
            assert {(member.uid, member.gid, member.mode) for member in archive} == {(0, 0, 0o644)}
        assert described["provider"] == provider
    with tarfile.open(box) as archive:
        content = archive.extractfile("metadata.json")
        assert content is not None
        assert {key: value for key, value in json.load(content).items() if key in {"format", "virtual_size"}} == {
            "format": "qcow2",
            "virtual_size": 20,
        }
