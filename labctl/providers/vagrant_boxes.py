"""labctl's boxes in the user's VAGRANT_HOME."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from labctl.host.paths import remove_tree
from labctl.host.process import check
from labctl.machine_image.format import FOLDER, MachineImage, box_name, catalogue
from labctl.model.events import Progress
from labctl.providers import vagrant_home

SLASH = "-VAGRANTSLASH-"
"""What Vagrant and vagrant-libvirt write in place of a / in the name of a box."""
PREFIX = f"labctl{SLASH}"
"""The prefix of the names of folders of labctl's boxes."""
BOX_SECONDS = 600.0


def boxes() -> Path:
    """Return the folder with a folder for each box."""
    return vagrant_home.folder() / "boxes"


def folder(image: MachineImage, provider: str) -> Path:
    """Return the folder to which Vagrant unpacked a box; Vagrant 2.4 adds a folder for the architecture."""
    version = boxes() / box_name(image.bundle_id).replace("/", SLASH) / image.version
    return next(version.glob(f"**/{provider}"), version / provider)


def names(provider: str = "*") -> tuple[str, ...]:
    """Return the names of labctl's boxes for a provider, or for any."""
    folders = {path.relative_to(boxes()).parts[0] for path in boxes().glob(f"{PREFIX}*/**/{provider}") if path.is_dir()}
    return tuple(sorted(name.replace(SLASH, "/") for name in folders))


def add(image: MachineImage, provider: str, scratch: Path, environment: Mapping[str, str], report: Progress) -> None:
    """Add a box to Vagrant, and replace one that was added only in part."""
    report(f"adding the box {box_name(image.bundle_id)}")
    remove_tree(folder(image, provider))  # Vagrant reads an existing box before it replaces it, and fails
    with tempfile.NamedTemporaryFile("w", prefix="box.", suffix=".json", dir=scratch) as file:
        file.write(catalogue(image, f"{image.path(FOLDER).absolute().as_uri()}/"))
        file.flush()
        line = ["vagrant", "box", "add", file.name, f"--provider={provider}", "--force"]
        check(line, env=vagrant_home.named_in(environment), cwd=scratch, timeout=BOX_SECONDS)


def remove(name: str, provider: str, scratch: Path, environment: Mapping[str, str]) -> None:
    """Remove a box in every version, if it exists."""
    if name in names(provider):
        line = ["vagrant", "box", "remove", name, f"--provider={provider}", "--all", "--force"]
        check(line, env=vagrant_home.named_in(environment), cwd=scratch, timeout=BOX_SECONDS)
