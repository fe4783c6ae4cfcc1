"""The initrd: busybox, the modules that find disks, and labctl's own `init`, in one reproducible cpio archive."""

from __future__ import annotations

import lzma
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labctl.machine_image.tools import Tools
from labctl.model.errors import MissingError

FILES = Path(__file__).parent / "files"
"""labctl's own files for machine images."""
MODULES = (
    # Disks of libvirt and VirtualBox, and the file systems on them.
    *(
        "crc32c_generic",
        "virtio_pci",
        "virtio_blk",
        "virtio_scsi",
        "ahci",
        "ata_piix",
        "sd_mod",
        "sr_mod",
        "ext4",
        "isofs",
    ),
    # Nothing in the system loads these: there, udev handles only network interfaces and the power button.
    *("virtio_net", "e1000", "button", "evdev", "virtio_rng", "overlay", "rtc_cmos"),
)
_FOLDERS = ("bin", "dev", "proc", "sys", "root", "modules", "acpi", "acpi/PWRF")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of a cpio archive."""

    path: str
    mode: int
    content: bytes = b""


def make(tools: Tools) -> bytes:
    """Return the initrd for the tools' kernel."""
    entries = [Entry(folder, stat.S_IFDIR | 0o755) for folder in _FOLDERS]
    entries.append(Entry("bin/busybox", stat.S_IFREG | 0o755, tools.file("usr/bin/busybox").read_bytes()))
    entries.append(Entry("init", stat.S_IFREG | 0o755, (FILES / "init").read_bytes()))
    entries.append(Entry("acpi/PWRF/00000080", stat.S_IFREG | 0o755, (FILES / "power-button").read_bytes()))
    for number, (name, module) in enumerate(load_order(tools.modules, MODULES).items()):
        entries.append(Entry(f"modules/{number:03}-{name}.ko", stat.S_IFREG | 0o644, module))
    return cpio(entries)


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return a cpio archive of format newc, padded to whole blocks. All entries are owned by root and have time 0."""
    parts = [_member(number, entry) for number, entry in enumerate([*entries, Entry(_TRAILER, 0)], start=1)]
    archive = b"".join(parts)
    return archive + bytes(-len(archive) % 512)


def load_order(modules: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """Return the wanted modules and their dependencies, by name, in load order.

    Modules that are built into the kernel are left out. Raises MissingError `kernel-module-missing`.
    """
    files = {_name(path.name): path for path in sorted(modules.rglob("*.ko*"))}
    listing = (modules / "modules.builtin").read_text(encoding="ascii").splitlines()
    builtin = {_name(Path(line).name) for line in listing}
    loaded: dict[str, bytes] = {}

    def load(name: str) -> None:
        if name in loaded or name in builtin:
            return
        if name not in files:
            raise MissingError(
                f"the kernel in {modules} has no module {name}",
                id="kernel-module-missing",
                hint="Remove that folder, and make the machine image again.",
            )
        content = _content(files[name])
        for needed in _dependencies(content):
            load(needed)
        loaded[name] = content

    for name in wanted:
        load(name)
    return loaded


def _dependencies(module: bytes) -> list[str]:
    match = _DEPENDS.search(module)
    names = match[1].decode().split(",") if match else []
    return [_name(name) for name in names if name]


def _name(file: str) -> str:
    return file.partition(".")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    return lzma.decompress(raw) if path.suffix == ".xz" else raw


def _member(number: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(f"{field:08x}".encode() for field in fields)
    head = header + name
    return head + bytes(-len(head) % 4) + entry.content + bytes(-len(entry.content) % 4)
