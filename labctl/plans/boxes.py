"""Boxes of bundles: the copies of a machine image that Vagrant and hypervisors keep."""

from __future__ import annotations

from pathlib import Path

from labctl.config.model import MACHINES
from labctl.host import lab_folder, paths
from labctl.host.files import write
from labctl.host.machine import Machine
from labctl.machine_image.format import box_name
from labctl.model.errors import ProviderError
from labctl.model.events import Progress
from labctl.plans.plan import Outcome
from labctl.providers.protocol import NodeImages
from labctl.providers.table import HYPERVISORS

LEFT_BOX = ("image-in-use", "libvirt-unreachable", "libvirt-silent", "libvirt-forbidden", "tool-not-started")
"""Errors after which a box is left in place: a machine uses it, or its hypervisor cannot be reached."""


def forget(images: NodeImages, box: str) -> Outcome:
    """Remove a box, unless a machine uses it; report labctl's other boxes."""
    try:
        was_there = box in images.list()
        images.forget(box)
        others = images.list()
    except ProviderError as error:
        if error.id not in LEFT_BOX:
            raise
        return Outcome(changed=False, text=f"box {box} was left: {error.message}")
    return Outcome(was_there, f"other boxes: {', '.join(others)}" if others else "")


def forget_bundle(bundle_id: str, report: Progress) -> None:
    """Remove the boxes of a bundle from every hypervisor that is installed; report labctl's other boxes there."""
    machine, box = Machine(), box_name(bundle_id)
    for hypervisor in map(HYPERVISORS.__getitem__, MACHINES):
        if hypervisor.node_images is None or not all(map(machine.has, hypervisor.programs)):
            continue
        removed = forget(hypervisor.node_images(paths.cache(), {}), box)
        if texts := [*([f"removed box {box}"] if removed.changed else []), *filter(None, [removed.text])]:
            report(f"{hypervisor.name}: {'; '.join(texts)}")


def record_left_box(folder: Path, provider: str, box: str) -> None:
    """Record in a destroyed lab's folder which box is left."""
    write(folder / lab_folder.BOX, f"{provider} {box}\n".encode())


def left_box(folder: Path) -> tuple[str, str] | None:
    """Return the provider and the box of a destroyed lab; None if it left none, or exists again."""
    if (folder / lab_folder.RECORD).exists():
        return None
    try:
        provider, box = (folder / lab_folder.BOX).read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        return None
    return (provider, box) if provider in MACHINES else None
