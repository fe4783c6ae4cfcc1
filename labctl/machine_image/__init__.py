"""What a virtual machine needs to be a node: its disk, boxes for Vagrant, and the seed that gives it an identity."""

from __future__ import annotations

from labctl.machine_image.format import MachineImage, box_name, load
from labctl.machine_image.integrity import forget, verify, verify_once

__all__ = ["MachineImage", "box_name", "forget", "load", "verify", "verify_once"]
