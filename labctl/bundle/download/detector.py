"""The failure detector, which a release of labctl contains as a static program for each architecture."""

from __future__ import annotations

import hashlib
import tempfile
from importlib.resources import files
from pathlib import Path

from labctl.bundle import images
from labctl.bundle.build.build import FAILURE_DETECTOR
from labctl.bundle.build.ingredients import ContainerImage
from labctl.model.errors import MissingError

FOLDER = "failure-detector"
"""The folder that `.ci/package` fills: `linux-ARCHITECTURE`, and its SHA-256 in `linux-ARCHITECTURE.sha256`."""


def has_program(architecture: str) -> bool:
    """Return whether this labctl contains the program for that architecture."""
    return (files(__package__) / FOLDER / f"linux-{architecture}").is_file()


def write_image(target: Path, architecture: str) -> None:
    """Write the program's image to tar archive `target`. Raises MissingError `failure-detector-damaged`."""
    folder = files(__package__) / FOLDER
    program = (folder / f"linux-{architecture}").read_bytes()
    expected = (folder / f"linux-{architecture}.sha256").read_text(encoding="ascii").split()[0]
    if (checksum := hashlib.sha256(program).hexdigest()) != expected:
        raise MissingError(
            f"the failure detector in this labctl has sha256 {checksum} instead of {expected}",
            id="failure-detector-damaged",
            hint="Install labctl again.",
        )
    image = FAILURE_DETECTOR.made_from
    assert isinstance(image, ContainerImage)  # noqa: S101 - it is an image in the recipe
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        file, layer = Path(scratch) / "program", Path(scratch) / "layer.tar"
        file.write_bytes(program)
        images.write_layer(layer, [images.Copy("failure-detector", file, 0o755)])
        images.write_archive(
            target, reference=image.reference, architecture=architecture, config=image.config, layers=[layer]
        )
