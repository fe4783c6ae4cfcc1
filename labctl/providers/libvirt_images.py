"""The boxes of libvirt machines: a box in the user's VAGRANT_HOME, and the box's image in the storage pool.

`vagrant box remove` leaves the image, and Vagrant starts machines from any image with the right name. So labctl uploads
the image itself, checks an existing one, and removes both.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle import Bundle
from labctl.host import locks, paths
from labctl.host.files import write
from labctl.host.libvirt import uri
from labctl.machine_image.format import DISK_IN_BOX, MachineImage, box_name, load
from labctl.model.errors import MissingError, ProviderError
from labctl.model.events import Progress
from labctl.providers import vagrant_boxes, virsh
from labctl.providers.libvirt_volumes import IMAGE, Pool, Volume
from labctl.providers.vagrant import BUSY_SECONDS
from labctl.providers.vagrant_boxes import SLASH

INFIX = "_vagrant_box_image_"
CHECKED = "checked"
"""The folder in the cache that records which images were verified, with their checksums and modification times."""
UPLOADS = "libvirt.lock"
"""The lock in the cache that a lab holds during an upload, so that no other mistakes the image for a leftover."""


@dataclass(frozen=True, slots=True)
class LibvirtImages:
    """Boxes of this user, and their images in libvirt's pool. Implements NodeImages."""

    folder: Path
    """The state folder of the lab that needs one."""
    environment: Mapping[str, str]

    def prepare(self, bundle: Bundle, report: Progress) -> None:
        """Add the bundle's box and upload its image, unless both exist with the right content.

        Do not read an image again that was not written to since it was last checked, or uploaded.

        Raises ProviderError `box-damaged` if the box that Vagrant unpacked is not the bundle's, and `image-differs` if
        the pool has another image of that name, which machines use.
        """
        image = load(bundle)
        if image is None:
            raise MissingError(f"the bundle {bundle.id} has no machine image", id="machine-image-missing")
        with locks.exclusive(paths.cache() / UPLOADS, report, timeout=BUSY_SECONDS):
            if not _is_added(image):
                vagrant_boxes.add(image, "libvirt", self.folder, virsh.vagrant(self.environment), report)
            pool, name = Pool(), volume(image)
            pool.require()
            if name in pool.volumes():
                stored = pool.described(name)
                if _is_unchanged(stored, image):
                    return
                report("checking the machine image in libvirt's storage pool")
                if pool.sha256(name, self.folder) == image.qcow2.sha256:
                    _remember(stored, image)
                    return
                if users := _layers(pool, name):
                    raise ProviderError(
                        f"the image {name} in libvirt's storage pool differs from the bundle's, and is used by {', '.join(users)}",
                        id="image-differs",
                        hint="Destroy the labs that use it; then `labctl up` replaces it.",
                    )
                pool.delete(name)  # left by an interrupted upload
            self._upload(pool, name, image, report)

    def forget(self, image: str) -> None:
        """Remove the box of this name in every version, and its images in the pool.

        Raises ProviderError `image-in-use` if a machine's disk is a layer on one.
        """
        pool = Pool()
        names = [name for name in pool.volumes() if name.startswith(image.replace("/", SLASH) + INFIX)]
        if users := [user for name in names for user in _layers(pool, name)]:
            raise ProviderError(
                f"the image of box {image} is used by {', '.join(users)}",
                id="image-in-use",
                hint="Destroy the labs that use it first.",
            )
        for name in names:
            pool.delete(name)
            _record(name).unlink(missing_ok=True)
        vagrant_boxes.remove(image, "libvirt", self.folder, virsh.vagrant(self.environment))

    def list(self) -> tuple[str, ...]:
        """Return the names of labctl's boxes in this user's Vagrant, and in libvirt's pool."""
        volumes = [name.partition(INFIX)[0].replace(SLASH, "/") for name in Pool().volumes() if name.startswith(IMAGE)]
        return tuple(sorted({*vagrant_boxes.names("libvirt"), *volumes}))

    def _upload(self, pool: Pool, name: str, image: MachineImage, report: Progress) -> None:
        if _checksum(image) != image.qcow2.sha256:
            vagrant_boxes.add(image, "libvirt", self.folder, virsh.vagrant(self.environment), report)
            if _checksum(image) != image.qcow2.sha256:
                raise ProviderError(
                    f"the box {box_name(image.bundle_id)} {image.version} in {vagrant_boxes.boxes()} is not the bundle's",
                    id="box-damaged",
                    hint="Check the disk; `labctl bundle verify` checks the bundle.",
                )
        report(f"uploading the machine image to libvirt, {image.qcow2.size // 2**20} MiB")
        pool.upload(name, _disk(image), "qcow2", image.qcow2.capacity)
        _remember(pool.described(name), image)


def volume(image: MachineImage) -> str:
    """Return the name by which vagrant-libvirt looks for the image of a box in the pool."""
    return f"{box_name(image.bundle_id).replace('/', SLASH)}{INFIX}{image.version}_{Path(DISK_IN_BOX).stem}.img"


def _disk(image: MachineImage) -> Path:
    """Return the disk in the box as Vagrant unpacked it."""
    return vagrant_boxes.folder(image, "libvirt") / DISK_IN_BOX


def _is_added(image: MachineImage) -> bool:
    """Return whether Vagrant has the whole box: it moves the files into place one after the other."""
    disk = _disk(image)
    return disk.is_file() and disk.stat().st_size == image.qcow2.size and disk.with_name("metadata.json").is_file()


def _checksum(image: MachineImage) -> str:
    with _disk(image).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_unchanged(stored: Volume, image: MachineImage) -> bool:
    """Return whether the volume has not been written to since it was found to be the image."""
    try:
        return bool(stored.stamp) and _record(stored.name).read_text(encoding="utf-8") == _line(stored, image)
    except (OSError, UnicodeError):
        return False  # only a cache: without it, the volume is checked again


def _remember(stored: Volume, image: MachineImage) -> None:
    """Record that a volume, in the state described, is the image."""
    write(_record(stored.name), _line(stored, image).encode())


def _record(name: str) -> Path:
    return paths.cache() / CHECKED / f"{name}.libvirt"


def _line(stored: Volume, image: MachineImage) -> str:
    return f"{uri(os.environ)} {stored.path} {image.qcow2.sha256} {stored.stamp}\n"


def _layers(pool: Pool, name: str) -> list[str]:
    """Return the names of the volumes that are layers on an image."""
    path = pool.described(name).path
    return [other for other in pool.volumes() if other != name and pool.described(other).backing == path]
