"""`labctl bundle build`: build a bundle from package registries, one artefact at a time. A later run resumes it."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from labctl.bundle import checksums, images
from labctl.bundle.build import makers
from labctl.bundle.build.failures import build_error, check_space, disk_errors
from labctl.bundle.build.ingredients import Artefact, ContainerImage, NodeSystem
from labctl.bundle.build.recipe import MAKERS, RECIPE, VERSIONS, WEB_IMAGE
from labctl.bundle.build.toolchain import Go
from labctl.bundle.format import DESCRIPTION, Bundle, File, Image, load, write
from labctl.bundle.unfinished import (
    OTHER_SECONDS,
    PROGRESS,
    SCRATCH,
    architecture,
    is_made,
    move_into_place,
    open_unfinished,
    read_description,
    reopen,
)
from labctl.host import locks
from labctl.model.errors import LabError
from labctl.model.events import Progress

MAKER = "build"
NODE = next(artefact.made_from for artefact in RECIPE if isinstance(artefact.made_from, NodeSystem))
FAILURE_DETECTOR = next(artefact for artefact in RECIPE if artefact.name == "failure-detector")
"""What builds and downloads make in the same way, because upstream publishes neither."""
_UNSURE_SECONDS = 120.0
"""After this many seconds of planned work, the measured pace counts as much in the estimate as the recipe's."""


class Makers(Protocol):
    """The functions of module `makers`, which make artefacts."""

    def check_tools(self) -> None:
        """Check that every tool that a build needs is installed."""

    def find_go(self, cache: Path, architecture: str, report: Progress) -> Go:
        """Return the Go toolchain; download it into `cache` if necessary."""

    def make(self, artefact: Artefact, scratch: Path, architecture: str, go: Go) -> None:
        """Make an artefact's files in folder `scratch`, named by the last component of their paths."""


def build(cache: Path, report: Progress, using: Makers = makers) -> Bundle:
    """Build this labctl's bundle for this machine below `cache`, and return it complete and verified.

    Keep the finished files of an interrupted build, and the intact files of a damaged bundle. Wait for another build of
    the same bundle. Raises MissingError: `tools-missing`, `disk-full`, `bundle-not-writable`,
    `bundle-build-failed` with the last lines of the tool, `go-module-mismatch`, `architecture-unsupported`, and as
    `fetch_wheel` if a package index does not serve a pinned wheel.
    """
    folder = cache / "bundles" / recipe_id()
    with disk_errors(folder), locks.exclusive(folder.with_name(f"{folder.name}.lock"), report, timeout=OTHER_SECONDS):
        if folder.exists():
            bundle = read_description(folder, DESCRIPTION, MAKER)
            problems = checksums.find_damage(bundle, cache, report)
            if bundle.files and not problems:
                return bundle
            reopen(bundle, problems, report)
        using.check_tools()
        go = using.find_go(cache, architecture(), report)
        bundle = _finish(_make_missing(open_unfinished(folder, MAKER), report, using, go), folder.name, go)
        checksums.record_hashed(bundle, cache)  # each file was hashed when it was made
        bundle.folder.rename(folder)
        return load(folder)


def recipe_id() -> str:
    """Return the id of the bundle that `build` makes; it changes with every pin and every own file that goes in."""
    digest = hashlib.sha256(repr((MAKERS, images.EPOCH, RECIPE)).encode())
    digest.update(own_files())
    return f"kubernetes-{VERSIONS['kubernetes']}-{architecture()}-{digest.hexdigest()[:8]}"


def own_files() -> bytes:
    """Return the names and checksums of labctl's own files that go into a bundle."""
    return _own_files(Path(__file__).parent)


@functools.cache
def _own_files(here: Path) -> bytes:
    """Return the names and checksums of the files below `here`, cached because they do not change while labctl runs."""
    files = sorted(path for folder in ("go", "rootfs") for path in (here / folder).rglob("*") if path.is_file())
    return b"".join(
        str(path.relative_to(here)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest() for path in files
    )


def recipe_images() -> tuple[str, ...]:
    """Return the references of the images that `build` makes; a version that only the build finds is a placeholder."""
    images = (artefact.made_from for artefact in RECIPE if isinstance(artefact.made_from, ContainerImage))
    return tuple(image.reference for image in images)


def recipe_files() -> tuple[str, ...]:
    """Return the paths of the files that `build` makes."""
    return tuple(path for artefact in RECIPE for path in artefact.files)


def _make_missing(bundle: Bundle, report: Progress, using: Makers, go: Go) -> Bundle:
    """Make every missing file of the recipe, and return the bundle."""
    missing = [artefact for artefact in RECIPE if not all(is_made(bundle, path) for path in artefact.files)]
    check_space(bundle.folder, sum(file.size for file in bundle.files))
    planned, spent = 0, 0.0
    for position, artefact in enumerate(missing):
        pace = (spent + _UNSURE_SECONDS) / (planned + _UNSURE_SECONDS)
        left = pace * sum(later.seconds for later in missing[position:])
        number = RECIPE.index(artefact) + 1
        report(
            f"{artefact.name} {artefact.version}: {artefact.verb}, {number} of {len(RECIPE)}, about {_duration(left)} left"
        )
        started = time.monotonic()
        files = _make(artefact, bundle, using, go)
        spent, planned = spent + time.monotonic() - started, planned + artefact.seconds
        kept = tuple(file for file in bundle.files if file.path not in artefact.files)
        bundle = replace(bundle, files=(*kept, *files))
        write(bundle, PROGRESS)
    return bundle


def _make(artefact: Artefact, bundle: Bundle, using: Makers, go: Go) -> tuple[File, ...]:
    """Make an artefact, move its files into place, and return them."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=bundle.folder) as scratch:
        try:
            using.make(artefact, Path(scratch), bundle.architecture, go)
        except LabError as error:
            raise build_error(artefact, error, bundle.folder) from error
        return tuple(
            move_into_place(Path(scratch) / Path(path).name, bundle, path, artefact.made_from.source)
            for path in artefact.files
        )


def built_image(bundle: Bundle, artefact: Artefact) -> Image:
    """Return the description of an image that was built; its reference is read from its archive."""
    image = artefact.made_from
    assert isinstance(image, ContainerImage)  # noqa: S101 - the caller has checked
    return Image(images.reference_of(bundle.path(artefact.path)), artefact.path, image.runs_on, image.phase)


def _finish(bundle: Bundle, name: str, go: Go) -> Bundle:
    """Write the bundle's bundle.yaml, and return the finished bundle."""
    carried = tuple(
        built_image(bundle, artefact) for artefact in RECIPE if isinstance(artefact.made_from, ContainerImage)
    )
    web_image = next(image.reference for image in carried if image.archive == WEB_IMAGE)
    versions = {**VERSIONS, "nginx": web_image.rpartition(":")[2], "go": go.version()}
    finished = {file.path: file for file in bundle.files}
    files = tuple(finished[path] for artefact in RECIPE for path in artefact.files)
    complete = replace(bundle, id=name, versions=versions, images=carried, web_image=web_image, files=files)
    write(complete)
    complete.path(PROGRESS).unlink()
    return complete


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes > 1 else f"{max(seconds, 1):.0f} s"
