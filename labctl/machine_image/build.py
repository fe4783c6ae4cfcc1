"""Building a bundle's machine image in its folder, atomically. The description of the bundle does not change."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from labctl.bundle.build.debian import ROOTFS
from labctl.bundle.checksums import sha256
from labctl.bundle.format import Bundle, File
from labctl.bundle.unfinished import ORPHAN_SECONDS, try_remove
from labctl.host import locks, paths, wait
from labctl.host.failpoints import failpoint
from labctl.machine_image import boxes, disk, initrd, integrity, system
from labctl.machine_image.failures import check_machine, check_space, image_errors
from labctl.machine_image.format import BOXES, FOLDER, LIBVIRT_BOX, VIRTUALBOX_BOX, MachineImage, load, write
from labctl.machine_image.tools import LEFT_OUT, PACKAGES, SUITE, Tools, find_tools
from labctl.model.events import Progress

RECIPE = 1
"""Incremented when this code makes a different disk from the same packages and files."""
SECONDS = 90
"""How long the disk and the libvirt box take on two processors; the VirtualBox box takes VMDK_SECONDS more."""
VMDK_SECONDS = 60
MIB = 600
"""The size of a box."""
OTHER_SECONDS = 1800.0
"""How long another labctl may take to make the same machine image."""
_SCRATCH = ".machine-"


def build(bundle: Bundle, cache: Path, report: Progress, providers: Collection[str] = ("libvirt",)) -> MachineImage:
    """Make the missing boxes of these providers for a bundle, and return its machine image.

    Keep the boxes of other providers. In the cache, rebuild boxes of another recipe; elsewhere, use them as they are.
    Raises MissingError: `architecture-unsupported`, `tools-missing`,
    `subordinate-ids-missing`, `disk-full`, `bundle-not-writable`, `machine-image-failed` with the last lines of the tool.
    """
    lock = cache / "bundles" / f"{bundle.id}.machine.lock"
    with image_errors(bundle), locks.exclusive(lock, report, timeout=OTHER_SECONDS):
        for leftover in bundle.folder.glob(f"{_SCRATCH}*"):
            wait.until(
                functools.partial(try_remove, leftover),
                what=f"the removal of {leftover}",
                timeout=ORPHAN_SECONDS,
                hint="A tool of an earlier run that was killed still writes there: stop that process.",
            )
        image = load(bundle)
        wanted = {*providers, *(image.providers if image else ())}
        problems = integrity.damage(bundle, image, cache, report) if image else {}
        if image is None or LIBVIRT_BOX in problems or not image.files or _is_outdated(bundle, image, cache):
            check_machine(bundle)
            check_space(bundle.folder)
            report(f"making the machine image of {bundle.id}: about {SECONDS} s, and {MIB} MiB in {bundle.folder}")
            image = _make_image(bundle, find_tools(cache, report), report)
            problems = {}
            integrity.remember(bundle, image, cache)  # it was hashed when it was made
        if VIRTUALBOX_BOX in problems or ("virtualbox" in wanted and "virtualbox" not in image.providers):
            check_space(bundle.folder)
            report(
                f"making the VirtualBox box of {bundle.id}: about {VMDK_SECONDS} s, and {MIB} MiB in {bundle.folder}"
            )
            image = _add_virtualbox(image, find_tools(cache, report), report)
            integrity.remember(bundle, image, cache)
        elif problems:
            write(image, bundle.path(FOLDER))
        return image


def recipe_id() -> str:
    """Return an id that changes with every own file and every package name that a machine image is made from."""
    digest = hashlib.sha256(repr((RECIPE, PACKAGES, LEFT_OUT, disk.OPTIONS, initrd.MODULES)).encode())
    own = [ROOTFS / "node.sh", *sorted(path for path in initrd.FILES.rglob("*") if path.is_file())]
    for path in own:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def version_of(bundle: Bundle, data: str) -> str:
    """Return the version of the boxes: that of Kubernetes, and a number derived from bundle, recipe and content.

    It has only digits and dots, because Vagrant takes anything else for a prerelease.
    """
    digest = hashlib.sha256(f"{bundle.id} {recipe_id()} {data}".encode()).hexdigest()
    return f"{bundle.versions['kubernetes']}.{int(digest[:12], 16)}"


def _is_outdated(bundle: Bundle, image: MachineImage, cache: Path) -> bool:
    """Return whether the image is of another recipe, and in the cache, where labctl may rebuild it."""
    is_cached = bundle.folder.parent == cache / "bundles"
    return is_cached and image.version != version_of(bundle, image.data)


def _make_image(bundle: Bundle, tools: Tools, report: Progress) -> MachineImage:
    """Make the disk and the libvirt box, and move them into the bundle's folder atomically."""
    with _scratch(bundle) as scratch:
        archive, raw, qcow2 = scratch / "system.tar", scratch / "disk.raw", scratch / "disk.qcow2"
        with _timed("installing packages and unpacking images", report):
            system.make(bundle, tools, archive)
        with _timed("making the disk", report):
            disk.make(tools, archive, initrd.make(tools), bundle.id, raw)
            data = disk.content_sha256(raw)
        archive.unlink()
        with _timed("compressing the disk", report):
            described = boxes.make_qcow2(tools, raw, qcow2)
        raw.unlink()
        folder = scratch / FOLDER
        folder.mkdir()
        with _timed("packing the box for libvirt", report):
            box = folder / Path(LIBVIRT_BOX).name
            boxes.write_libvirt_box(qcow2, box)
            file = _describe(box, LIBVIRT_BOX, f"Debian {SUITE}, Linux {tools.kernel}, bundle {bundle.id}")
        image = MachineImage(bundle.folder, bundle.id, version_of(bundle, data), tools.kernel, data, described, (file,))
        write(image, folder)
        paths.remove_tree(bundle.path(FOLDER))
        failpoint("machine-image")
        folder.rename(bundle.path(FOLDER))
    return image


def _add_virtualbox(image: MachineImage, tools: Tools, report: Progress) -> MachineImage:
    """Make the VirtualBox box from the libvirt one, so that both hold the same disk."""
    with _scratch(image) as scratch:
        vmdk, box = scratch / boxes.VMDK, scratch / Path(VIRTUALBOX_BOX).name
        identity = int(hashlib.sha256(image.bundle_id.encode()).hexdigest()[:8], 16)
        with _timed("converting the disk", report):
            boxes.make_vmdk(tools, image.path(LIBVIRT_BOX), identity, vmdk)
        with _timed("packing the box for VirtualBox", report):
            boxes.write_virtualbox_box(vmdk, image.bundle_id, box)
            file = _describe(box, VIRTUALBOX_BOX, f"the disk in {LIBVIRT_BOX}")
        failpoint("machine-image")
        box.replace(image.path(VIRTUALBOX_BOX))
    others = [each for each in image.files if each.path != VIRTUALBOX_BOX]
    complete = replace(
        image, files=tuple(sorted((*others, file), key=lambda each: list(BOXES.values()).index(each.path)))
    )
    write(complete, image.path(FOLDER))
    return complete


def _describe(finished: Path, path: str, source: str) -> File:
    """Sync a finished file to disk, and describe it."""
    with finished.open("rb") as file:
        os.fsync(file.fileno())
    return File(path, sha256(finished), finished.stat().st_size, source)


@contextmanager
def _scratch(owner: Bundle | MachineImage) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=owner.folder) as folder:
        yield Path(folder)


@contextmanager
def _timed(what: str, report: Progress) -> Iterator[None]:
    report(f"machine image: {what}")
    started = time.monotonic()
    yield
    report(f"machine image: {what} took {time.monotonic() - started:.1f} s")
