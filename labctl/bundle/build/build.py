"""`labctl bundle build`: a bundle made from package registries, one artefact after the other, resumable at any moment."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from labctl.bundle import checksums, images
from labctl.bundle.build import makers
from labctl.bundle.build.failures import build_error, check_space, disk_errors
from labctl.bundle.build.ingredients import Artefact, ContainerImage
from labctl.bundle.build.recipe import MAKERS, RECIPE, VERSIONS, WEB_IMAGE
from labctl.bundle.build.toolchain import Go
from labctl.bundle.format import DESCRIPTION, Bundle, File, Image, load, read, write
from labctl.host import locks, wait
from labctl.host.failpoints import failpoint
from labctl.host.wait import Pending
from labctl.model.errors import LabError, MissingError
from labctl.model.events import Progress

_PROGRESS = "partial.yaml"
"""Describes, in the folder of an unfinished build, the files that are made."""
_PARTIAL = ".partial"
_SCRATCH = ".making-"
OTHER_SECONDS = 7200.0
"""How long another labctl may take to build the same bundle."""
_UNSURE_SECONDS = 120.0
"""Of work, that it takes until a machine's own pace counts for as much as the recipe's: the first artefacts are small."""
ORPHAN_SECONDS = 60.0
"""How long a tool of a killed build may take to notice that it is alone."""
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class Makers(Protocol):
    """What makes artefacts: the functions of module `makers`."""

    def check_tools(self) -> None:
        """Check that every tool that building needs is installed."""

    def find_go(self, cache: Path, architecture: str, report: Progress) -> Go:
        """Return the Go that compiles; it may have been fetched, into `cache`."""

    def make(self, artefact: Artefact, scratch: Path, architecture: str, go: Go) -> None:
        """Make an artefact's files in folder `scratch`, under the last component of their paths."""


def build(cache: Path, report: Progress, using: Makers = makers) -> Bundle:
    """Build this labctl's bundle for this machine below `cache`, and return it complete and verified.

    What an earlier build made is kept, even if it was cut off; of a damaged bundle, what is intact. Another build of
    the same bundle is waited for. Raises MissingError: `tools-missing`, `disk-full`, `bundle-not-writable`,
    `bundle-build-failed` with the last lines of the tool, `go-module-mismatch`, `architecture-unsupported`; where a
    package index does not serve a pinned wheel, as `fetch_wheel`.
    """
    folder = cache / "bundles" / recipe_id()
    with disk_errors(folder), locks.alone(folder.with_name(f"{folder.name}.lock"), report, timeout=OTHER_SECONDS):
        if folder.exists():
            bundle = _described(folder, DESCRIPTION)
            problems = checksums.damage(bundle, cache, report)
            if bundle.files and not problems:
                return bundle
            _reopen(bundle, problems, report)
        using.check_tools()
        go = using.find_go(cache, _architecture(), report)
        bundle = _complete(_make_missing(_begun(folder), report, using, go), folder.name, go)
        checksums.remember(bundle, cache)  # each file was hashed when it was made
        bundle.folder.rename(folder)
        return load(folder)


def recipe_id() -> str:
    """Return the id of the bundle that `build` makes; it changes with every pin and every file of labctl that goes in."""
    digest = hashlib.sha256(repr((MAKERS, images.EPOCH, RECIPE)).encode())
    digest.update(_own_files(Path(__file__).parent))
    return f"kubernetes-{VERSIONS['kubernetes']}-{_architecture()}-{digest.hexdigest()[:8]}"


@functools.cache
def _own_files(here: Path) -> bytes:
    """Return the names and checksums of the files of labctl's own that go into a bundle; they do not change meanwhile."""
    files = sorted(path for folder in ("go", "rootfs") for path in (here / folder).rglob("*") if path.is_file())
    return b"".join(
        str(path.relative_to(here)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest() for path in files
    )


def made_images() -> tuple[str, ...]:
    """Return the references of the images that `build` makes, their versions as far as they are known before."""
    images = (artefact.made_from for artefact in RECIPE if isinstance(artefact.made_from, ContainerImage))
    return tuple(image.reference for image in images)


def made_files() -> tuple[str, ...]:
    """Return the paths of the files that `build` makes."""
    return tuple(path for artefact in RECIPE for path in artefact.files)


def _architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise MissingError(
            f"bundles cannot be built for {machine}",
            id="architecture-unsupported",
            hint=f"Build on one of: {', '.join(sorted(set(_ARCHITECTURES.values())))}.",
        )
    return _ARCHITECTURES[machine]


def _reopen(bundle: Bundle, problems: Mapping[str, str], report: Progress) -> None:
    """Turn a damaged bundle into an unfinished build that keeps the intact files."""
    for path, problem in problems.items():
        report(f"{path} {problem}: rebuilding it")
    write(replace(bundle, files=tuple(file for file in bundle.files if file.path not in problems)), _PROGRESS)
    bundle.folder.rename(_partial(bundle.folder))


def _begun(folder: Path) -> Bundle:
    """Return what an interrupted build has finished of the bundle `folder`; remove what it was working on."""
    partial = _partial(folder)
    partial.mkdir(exist_ok=True)
    for leftover in partial.glob(f"{_SCRATCH}*"):
        wait.until(
            functools.partial(removed, leftover),
            what=f"removing {leftover}",
            timeout=ORPHAN_SECONDS,
            hint="A tool of an earlier build that was killed still writes there: stop that process.",
        )
    return _described(partial, _PROGRESS)


def removed(folder: Path) -> Literal[True] | Pending:
    """Remove a folder, and return whether it is gone; a tool of a killed build may still write to it."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if folder.exists() and error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
            raise
    return Pending("it is not empty") if folder.exists() else True


def _described(folder: Path, name: str) -> Bundle:
    """Return the bundle that file `name` describes; a bundle without files if the file is missing or invalid."""
    try:
        return read(folder, name)
    except MissingError:
        return Bundle(folder, folder.name.removesuffix(_PARTIAL), "build", _architecture(), {}, (), "", ())


def _make_missing(bundle: Bundle, report: Progress, using: Makers, go: Go) -> Bundle:
    """Make every missing file of the recipe, and return the bundle."""
    missing = [artefact for artefact in RECIPE if not all(_is_made(bundle, path) for path in artefact.files)]
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
        files = _made(artefact, bundle, using, go)
        spent, planned = spent + time.monotonic() - started, planned + artefact.seconds
        kept = tuple(file for file in bundle.files if file.path not in artefact.files)
        bundle = replace(bundle, files=(*kept, *files))
        write(bundle, _PROGRESS)
    return bundle


def _is_made(bundle: Bundle, path: str) -> bool:
    """Return whether an earlier build made the file; its content is verified when the bundle is used."""
    return any(
        file.path == path and bundle.path(path).is_file() and bundle.path(path).stat().st_size == file.size
        for file in bundle.files
    )


def _made(artefact: Artefact, bundle: Bundle, using: Makers, go: Go) -> tuple[File, ...]:
    """Make an artefact, move its files into place, and return them."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=bundle.folder) as scratch:
        try:
            using.make(artefact, Path(scratch), bundle.architecture, go)
        except LabError as error:
            raise build_error(artefact, error, bundle.folder) from error
        return tuple(
            _moved(Path(scratch) / Path(path).name, bundle, path, artefact.made_from.source) for path in artefact.files
        )


def _moved(made_file: Path, bundle: Bundle, path: str, source: str) -> File:
    """Sync a file to disk and move it into place, so that a crash leaves the whole file or none."""
    with made_file.open("rb") as file:
        os.fsync(file.fileno())
    described = File(path, checksums.sha256(made_file), made_file.stat().st_size, source)
    bundle.path(path).parent.mkdir(parents=True, exist_ok=True)
    failpoint("artefact")
    made_file.replace(bundle.path(path))
    return described


def _complete(bundle: Bundle, name: str, go: Go) -> Bundle:
    """Write the bundle's bundle.yaml, and return the finished bundle."""
    carried = tuple(
        Image(
            images.reference_of(bundle.path(artefact.path)),
            artefact.path,
            artefact.made_from.runs_on,
            artefact.made_from.phase,
        )
        for artefact in RECIPE
        if isinstance(artefact.made_from, ContainerImage)
    )
    web_image = next(image.reference for image in carried if image.archive == WEB_IMAGE)
    versions = {**VERSIONS, "nginx": web_image.rpartition(":")[2], "go": go.version()}
    finished = {file.path: file for file in bundle.files}
    files = tuple(finished[path] for artefact in RECIPE for path in artefact.files)
    complete = replace(bundle, id=name, versions=versions, images=carried, web_image=web_image, files=files)
    write(complete)
    complete.path(_PROGRESS).unlink()
    return complete


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + _PARTIAL)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes > 1 else f"{max(seconds, 1):.0f} s"
