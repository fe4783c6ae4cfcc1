"""Verification of a machine image's boxes by their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.bundle import checksums
from labctl.bundle.format import Bundle
from labctl.host.paths import content
from labctl.machine_image.format import CATALOGUE, REBUILD, MachineImage, catalogue
from labctl.model.errors import MissingError
from labctl.model.events import Progress


def verify_once(bundle: Bundle, image: MachineImage, cache: Path, report: Progress) -> None:
    """Compare every box with machine.yaml, and hash only those that changed since they were last hashed.

    Raises one MissingError, `machine-image-damaged`, that names every missing or changed file.
    """
    if problems := damage(bundle, image, cache, report):
        named = "; ".join(f"{path} {problem}" for path, problem in problems.items())
        raise MissingError(
            f"the machine image of bundle {bundle.folder} is damaged: {named}", id="machine-image-damaged", hint=REBUILD
        )


def verify(bundle: Bundle, image: MachineImage, cache: Path, report: Progress) -> None:
    """Hash every box, and compare it with machine.yaml. Raises as `verify_once`."""
    forget(bundle.id, cache)
    verify_once(bundle, image, cache, report)


def damage(bundle: Bundle, image: MachineImage, cache: Path, report: Progress) -> Mapping[str, str]:
    """Return the problem of each missing or changed file, by path. Hashes as `verify_once` does."""
    problems = checksums.find_damage(_as_bundle(bundle, image), cache, report)
    try:
        is_right = content(image.path(CATALOGUE)) == catalogue(image).encode()
    except OSError as error:
        return {**problems, CATALOGUE: f"cannot be read: {error.strerror}"}
    return problems if is_right else {**problems, CATALOGUE: "does not list the boxes in machine.yaml"}


def remember(bundle: Bundle, image: MachineImage, cache: Path) -> None:
    """Record every box as hashed and correct until it changes."""
    checksums.record_hashed(_as_bundle(bundle, image), cache)


def forget(bundle_id: str, cache: Path) -> None:
    """Remove the record of a bundle's hashed boxes."""
    checksums.forget(_record_id(bundle_id), cache)


def _record_id(bundle_id: str) -> str:
    return f"{bundle_id}.machine"


def _as_bundle(bundle: Bundle, image: MachineImage) -> Bundle:
    """Return a bundle with only the image's files, whose checks are recorded separately from the bundle's own."""
    return replace(bundle, id=_record_id(bundle.id), files=image.files)
