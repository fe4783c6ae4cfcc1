"""Boxes for Vagrant: uncompressed tar archives, reproducible from their input."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from labctl.bundle.checksums import sha256
from labctl.bundle.images import EPOCH
from labctl.machine_image import disk
from labctl.machine_image.format import DISK_IN_BOX, Disk
from labctl.machine_image.initrd import FILES
from labctl.machine_image.tools import Tools
from labctl.model.errors import MissingError

VMDK = "box.vmdk"
_CID_FIELD = b"\nCID="
_CID_DIGITS = 8
_DESCRIPTOR = 64 * 1024
"""How many bytes at the beginning of a VMDK contain its descriptor."""


def make_qcow2(tools: Tools, raw: Path, target: Path) -> Disk:
    """Convert a raw disk to a qcow2 compressed with zstd: the smallest, and the fastest to make and to boot from."""
    tools.run(
        *("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd,lazy_refcounts=off"),
        *(raw, target),
    )
    return Disk(disk.CAPACITY, target.stat().st_size, sha256(target))


def write_libvirt_box(qcow2: Path, target: Path) -> None:
    """Pack a libvirt box."""
    described = {"provider": "libvirt", "format": "qcow2", "virtual_size": disk.CAPACITY >> 30, "architecture": "amd64"}
    _write(target, described, {DISK_IN_BOX: qcow2}, {})


def make_vmdk(tools: Tools, box: Path, identity: int, target: Path) -> None:
    """Convert the disk in a libvirt box to a stream-optimised VMDK with the content id `identity`."""
    with tarfile.open(box, "r:") as archive:
        member = archive.getmember(DISK_IN_BOX)
    place = {"driver": "raw", "offset": member.offset_data, "size": member.size}
    source = {"driver": "qcow2", "file": {**place, "file": {"driver": "file", "filename": str(box)}}}
    tools.run(
        *("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic"),
        *(f"json:{json.dumps(source)}", target),
    )
    set_content_id(target, identity)


def set_content_id(vmdk: Path, identity: int) -> None:
    """Replace the random content id of qemu-img in a VMDK's descriptor, which may be shorter than this one."""
    with vmdk.open("r+b") as file:
        before, field, rest = file.read(_DESCRIPTOR).partition(_CID_FIELD)
        drawn, _, after = rest.partition(b"\n")
        text, _, padding = after.partition(b"\0")
        longer = _CID_DIGITS - len(drawn)
        if not field or padding[:longer].strip(b"\0"):
            raise MissingError(
                f"{vmdk} has no content id in its descriptor", id="machine-image-damaged", hint="Make the box again."
            )
        file.seek(len(before) + len(field))
        file.write(f"{identity:0{_CID_DIGITS}x}\n".encode() + text)


def write_virtualbox_box(vmdk: Path, bundle_id: str, target: Path) -> None:
    """Pack a VirtualBox box."""
    texts = {"box.ovf": ovf(bundle_id, vmdk.stat().st_size).encode()}
    _write(target, {"provider": "virtualbox", "architecture": "amd64"}, {VMDK: vmdk}, texts)


def ovf(bundle_id: str, size: int) -> str:
    """Return the description of the machine that VirtualBox imports, with a disk whose file has `size` bytes."""
    text = (FILES / "box.ovf").read_text(encoding="utf-8")
    values = {"NAME": f"labctl-{bundle_id}", "DISK": VMDK, "SIZE": str(size), "CAPACITY": str(disk.CAPACITY)}
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _write(target: Path, described: dict[str, object], files: dict[str, Path], texts: dict[str, bytes]) -> None:
    contents = {"metadata.json": json.dumps(described).encode(), "Vagrantfile": (FILES / "Vagrantfile").read_bytes()}
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, text in {**contents, **texts}.items():
            archive.addfile(_member(name, len(text)), io.BytesIO(text))
        for name, path in files.items():
            with path.open("rb") as file:
                archive.addfile(_member(name, path.stat().st_size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, EPOCH, 0o644
    return member
