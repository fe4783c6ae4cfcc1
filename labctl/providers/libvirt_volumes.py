"""The storage pool in which vagrant-libvirt keeps disks: boxes' images, nodes' disks, and their seeds."""

from __future__ import annotations

import hashlib
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from labctl.model.errors import MissingError, ProviderError
from labctl.providers import virsh

POOL = "default"
"""vagrant-libvirt's default pool, which it creates if it is missing."""
IMAGE = "labctl-VAGRANTSLASH-"
"""The prefix of vagrant-libvirt's names for the images of labctl's boxes."""
REFRESH_SECONDS = 120.0
"""How long libvirt may take to refresh a pool, whose disk may be slow."""
FOLDER = "/var/lib/libvirt/images"
"""Where libvirt, virt-manager and vagrant-libvirt create that pool."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as libvirt describes it."""

    name: str
    path: str
    backing: str
    """The path of the image that it is a layer on; empty if none."""
    stamp: str = ""
    """Its size and modification time, to the nanosecond; empty if the pool does not report them. A machine that starts
    from an image changes the file's owner, and so its ctime, but writes nothing to it."""


class Pool:
    """The storage pool, which need not exist before it is used."""

    def require(self) -> None:
        """Create the pool if it does not exist. Raises MissingError `pool-inactive`: labctl starts no foreign pool."""
        if POOL in virsh.names("pool-list", "--name"):
            return
        if POOL in virsh.names("pool-list", "--all", "--name"):
            raise MissingError(
                f"libvirt's storage pool {POOL} is not active",
                id="pool-inactive",
                hint=f"Start it: `{virsh.command_text('pool-start', POOL)}`, "
                f"and with every start of libvirt: `{virsh.command_text('pool-autostart', POOL)}`.",
            )
        virsh.check_virsh("pool-define-as", POOL, "dir", "--target", FOLDER)
        virsh.check_virsh("pool-build", POOL)
        virsh.check_virsh("pool-start", POOL)
        virsh.check_virsh("pool-autostart", POOL)

    def volumes(self) -> dict[str, str]:
        """Return the path of each volume by its name; none if there is no active pool.

        Refresh the pool first: libvirt still lists a file that another program removed, and cannot describe it.
        """
        refreshed = virsh.run_virsh("pool-refresh", POOL, seconds=REFRESH_SECONDS)
        if refreshed.code != 0 and POOL not in virsh.names("pool-list", "--name"):
            return {}  # else it is creating a volume at this moment
        # The rows are `NAME  PATH`, each path absolute: a name may have spaces.
        rows = (row.partition(" /") for row in virsh.check_virsh("vol-list", POOL).splitlines()[2:])
        return {name.strip(): f"/{path.strip()}" for name, _, path in sorted(rows) if name.strip()}

    def described(self, name: str) -> Volume:
        """Return libvirt's description of a volume."""
        element = ET.fromstring(virsh.check_virsh("vol-dumpxml", "--pool", POOL, name))  # noqa: S314 - libvirt wrote it
        size, written = element.findtext("physical", ""), element.findtext("target/timestamps/mtime", "")
        stamp = f"{size} {written}" if size and written else ""
        return Volume(name, element.findtext("target/path", ""), element.findtext("backingStore/path", ""), stamp)

    def upload(self, name: str, file: Path, kind: str, capacity: int) -> None:
        """Create a volume with the file's bytes. If the upload fails, remove the volume and raise ProviderError."""
        size = file.stat().st_size
        text = f"""<volume>
  <name>{escape(name)}</name>
  <capacity unit="B">{capacity}</capacity>
  <allocation unit="B">{size if kind == "raw" else 0}</allocation>
  <target><format type="{kind}"/><permissions><mode>0600</mode></permissions></target>
</volume>"""
        virsh.check_virsh("vol-create", POOL, "/dev/stdin", stdin=text.encode())
        try:
            virsh.check_virsh("vol-upload", "--pool", POOL, name, str(file), seconds=virsh.TRANSFER_SECONDS)
        except ProviderError:
            virsh.run_virsh("vol-delete", "--pool", POOL, name)
            raise

    def delete(self, name: str) -> None:
        """Remove a volume."""
        virsh.check_virsh("vol-delete", "--pool", POOL, name)

    def download(self, name: str, file: Path) -> None:
        """Write a volume's bytes, which only libvirt can read, to a file."""
        line = ("vol-download", "--pool", POOL, name, str(file))
        virsh.check_virsh(*line, seconds=virsh.TRANSFER_SECONDS)

    def sha256(self, name: str, scratch: Path) -> str:
        """Return the checksum of a volume, by way of a temporary copy in `scratch`."""
        with tempfile.NamedTemporaryFile(prefix=".volume.", dir=scratch) as copy:
            self.download(name, Path(copy.name))
            with Path(copy.name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Disks:
    """The volumes of nodes: the disk of each, a layer on its box's image, and its seed."""

    pool: Pool

    def paths(self) -> frozenset[str]:
        """Return the paths of all volumes."""
        return frozenset(self.pool.volumes().values())

    def seed(self, node: str, file: Path, scratch: Path) -> None:
        """Create the volume with a node's seed, unless it exists with the same bytes."""
        name = seed_volume(node)
        if name in self.pool.volumes():
            if self.pool.sha256(name, scratch) == hashlib.sha256(file.read_bytes()).hexdigest():
                return
            self.pool.delete(name)
        self.pool.upload(name, file, "raw", file.stat().st_size)

    def remove(self, nodes: Iterable[str]) -> bool:
        """Remove the disks and seeds of these nodes; return whether there were any.

        Leave a disk with a node's name that is not a layer on an image of labctl's: it is foreign.
        """
        existing = self.pool.volumes()
        mine = [
            volume
            for node in nodes
            for volume in (f"{node}.img", seed_volume(node))
            if volume in existing and (volume == seed_volume(node) or is_image(self.pool.described(volume).backing))
        ]
        for volume in mine:
            self.pool.delete(volume)
        return bool(mine)


def seed_volume(node: str) -> str:
    """Return the name of the volume with a node's seed; the Vagrantfile uses it as well."""
    return f"labctl-{node}-seed.iso"


def is_image(path: str) -> bool:
    """Return whether a volume is the image of one of labctl's boxes, by its name or path."""
    return Path(path).name.startswith(IMAGE)
