"""The boxes of VirtualBox machines, in the user's VAGRANT_HOME; VirtualBox imports the box for each machine."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle import Bundle
from labctl.host import locks
from labctl.host.machine import Machine
from labctl.host.virtualbox import PROGRAM
from labctl.machine_image.format import VIRTUALBOX_BOX, MachineImage, load
from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.providers import vagrant_boxes
from labctl.providers.vagrant import BUSY_SECONDS, LOCK
from labctl.providers.virtualbox import remove_unfinished


@dataclass(frozen=True, slots=True)
class VirtualBoxImages:
    """Boxes of this user. Implements NodeImages."""

    folder: Path
    """The state folder of the lab that needs one."""
    environment: Mapping[str, str]

    def prepare(self, bundle: Bundle, report: Progress) -> None:
        """Add the bundle's box to Vagrant, unless it is complete there. Raises MissingError `machine-image-missing`."""
        image = load(bundle)
        if image is None or "virtualbox" not in image.providers:
            raise MissingError(f"the bundle {bundle.id} has no VirtualBox box", id="machine-image-missing")
        with locks.exclusive(self.folder / LOCK, report, timeout=BUSY_SECONDS):
            if not _is_added(image):
                vagrant_boxes.add(image, "virtualbox", self.folder, self.environment, report)

    def forget(self, image: str) -> None:
        """Remove the box of this name in every version, and leftovers of imports. Machines do not need the box."""
        if Machine().has(PROGRAM):
            remove_unfinished()
        vagrant_boxes.remove(image, "virtualbox", self.folder, self.environment)

    def list(self) -> tuple[str, ...]:
        """Return the names of labctl's boxes for VirtualBox that this user has."""
        return vagrant_boxes.names("virtualbox")


def _is_added(image: MachineImage) -> bool:
    """Return whether Vagrant has every file of the box, with its size."""
    folder = vagrant_boxes.folder(image, "virtualbox")
    with tarfile.open(image.path(VIRTUALBOX_BOX), "r:") as box:
        return all(
            (folder / member.name).is_file() and (folder / member.name).stat().st_size == member.size for member in box
        )
