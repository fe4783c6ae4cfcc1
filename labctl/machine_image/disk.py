"""The disk: a master boot record, a FAT partition with kernel and boot loaders for BIOS and UEFI, and the root file system.

No loop device is needed: every tool writes at its offset into one sparse file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import uuid
from pathlib import Path

from labctl.machine_image.initrd import FILES
from labctl.machine_image.tools import Tools

MIB = 1 << 20
SECTOR = 512
CAPACITY = 20 << 30
BOOT_START = 1 * MIB
BOOT_SIZE = 48 * MIB
ROOT_START = BOOT_START + BOOT_SIZE
ROOT_LABEL = "labctl-root"
BLOCK = 4096
BOOT_CODE = 440
"""Bytes of the master boot record before its signature and partitions."""
OPTIONS = (
    "console=tty0 console=ttyS0 quiet panic=10 mitigations=off nowatchdog no_timer_check audit=0 apparmor=0"
    " net.ifnames=1 systemd.show_status=0 systemd.gpt_auto=0 norandmaps transparent_hugepage=never"
)
"""The kernel's. With norandmaps, programs keep their addresses, so QEMU without KVM can reuse its translated code."""
_SEPARATOR = b"\0"


def make(tools: Tools, system: Path, initrd: bytes, identity: str, target: Path) -> None:
    """Make the raw disk `target` of the root file system in tar archive `system`.

    The identifiers in it follow from `identity`. Raises MissingError `tool-failed`, OSError when the disk is full.
    """
    with target.open("wb") as file:
        file.truncate(CAPACITY)
    tools.run("sfdisk", "--quiet", target, stdin=partition_table(identity).encode())
    _make_root(tools, system, identity, target)
    _make_boot(tools, initrd, identity, target)
    with target.open("r+b") as file:
        file.write(tools.file("usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:BOOT_CODE])


def partition_table(identity: str) -> str:
    """Return the input of sfdisk: the label and both partitions, in sectors."""
    return (
        f"label: dos\nlabel-id: 0x{_digest(identity)[:8]}\nunit: sectors\nsector-size: {SECTOR}\n"
        f"start={BOOT_START // SECTOR}, size={BOOT_SIZE // SECTOR}, type=ef, bootable\n"
        f"start={ROOT_START // SECTOR}, size={(CAPACITY - ROOT_START) // SECTOR}, type=83\n"
    )


def content_sha256(disk: Path) -> str:
    """Return the SHA-256 of a disk's size, and of the number and the bytes of each MiB that is not all zeros.

    The time depends on the amount of data, not on the disk's size; the result does not depend on the file's holes.
    """
    digest, zeros = hashlib.sha256(str(disk.stat().st_size).encode()), bytes(MIB)
    with disk.open("rb") as file:
        position = _data(file.fileno(), 0)
        while position is not None:
            number = position // MIB
            file.seek(number * MIB)
            content = file.read(MIB)
            if content != zeros[: len(content)]:
                digest.update(str(number).encode() + _SEPARATOR + content)
            position = _data(file.fileno(), (number + 1) * MIB)
    return digest.hexdigest()


def _data(descriptor: int, start: int) -> int | None:
    """Return the offset of the next data in a sparse file; None if there is none."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None  # only a hole is left, or nothing


def _make_root(tools: Tools, system: Path, identity: str, target: Path) -> None:
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"labctl:{identity}"))
    extended = f"offset={ROOT_START},hash_seed={name},lazy_itable_init=0,root_owner=0:0,nodiscard"
    blocks = (CAPACITY - ROOT_START) // BLOCK
    tools.run(
        "mke2fs",
        *("-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0", "-L", ROOT_LABEL, "-U", name),
        *("-E", extended, "-d", system, target, str(blocks)),
    )


def _make_boot(tools: Tools, initrd: bytes, identity: str, target: Path) -> None:
    drive = f"{target}@@{BOOT_START}"
    tracks = BOOT_SIZE // SECTOR
    tools.run(
        *("mformat", "-i", drive, "-T", str(tracks), "-h", "255", "-s", "63", "-H", str(BOOT_START // SECTOR)),
        *("-v", "LABCTL-BOOT", "-N", _digest(identity)[8:16], "::"),
    )
    tools.run("mmd", "-i", drive, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries", "::/syslinux")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        scratch = Path(folder)
        contents = {
            "vmlinuz": tools.vmlinuz.read_bytes(),
            "initrd.img": initrd,
            "EFI/BOOT/BOOTX64.EFI": tools.file("usr/lib/systemd/boot/efi/systemd-bootx64.efi").read_bytes(),
            "loader/loader.conf": (FILES / "loader.conf").read_bytes(),
            "loader/entries/labctl.conf": _with_options("labctl.conf"),
            "syslinux/syslinux.cfg": _with_options("syslinux.cfg"),
        }
        for path, content in contents.items():
            file = scratch / Path(path).name
            file.write_bytes(content)
            tools.run("mcopy", "-i", drive, file, f"::/{path}")
    tools.run("syslinux", "--install", "--directory", "/syslinux", "--offset", str(BOOT_START), target)


def _with_options(name: str) -> bytes:
    return (FILES / name).read_text(encoding="ascii").replace("@OPTIONS@", OPTIONS).encode()


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
