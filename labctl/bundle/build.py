"""`labctl bundle build`: a bundle made from package registries, one artefact after the other, resumable at any moment."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from labctl.bundle import checksums, gomodules, images, makers
from labctl.bundle.format import DESCRIPTION, Bundle, File, Image, load, read, write
from labctl.bundle.ingredients import Artefact, ContainerImage
from labctl.bundle.recipe import GO_CACHE_SPACE, MAKERS, RECIPE, SPACE, VERSIONS, WEB_IMAGE
from labctl.errors import LabError, MissingError
from labctl.events import Say

Make = Callable[[Artefact, Path, str], None]
"""Makes the files of an artefact in a folder, for an architecture."""

_PROGRESS = "partial.yaml"
"""Describes, in the folder of an unfinished build, the files that are made."""
_PARTIAL = ".partial"
_SCRATCH = ".making-"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def build(cache: Path, say: Say, make: Make = makers.make) -> Bundle:
    """The bundle of this labctl's recipe for this machine, complete and checked, below `cache`.

    What an earlier build made is kept, even if it was cut off; of a damaged bundle, what is intact. Another build of
    the same bundle is waited for. Raises MissingError: `tools-missing`, `disk-full`, `bundle-not-writable`,
    `bundle-build-failed` with the last lines of the tool, `go-module-mismatch`, `architecture-unsupported`.
    """
    folder = cache / "bundles" / recipe_id()
    with _disk_errors(folder), _alone(folder, say):
        if not folder.exists() or not _is_intact(folder, cache, say):
            _check_tools()
            _finish(_make_missing(_begun(folder), say, make), folder, cache)
        return load(folder)


def recipe_id() -> str:
    """The id of the bundle that `build` makes here; another pin, or another file of labctl's own, makes it another id."""
    digest = hashlib.sha256(repr((MAKERS, images.EPOCH, RECIPE)).encode())
    here = Path(__file__).parent
    for path in sorted(path for folder in ("go", "rootfs") for path in (here / folder).rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(here)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"kubernetes-{VERSIONS['kubernetes']}-{_architecture()}-{digest.hexdigest()[:8]}"


def _architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise MissingError(
            f"bundles cannot be built for {machine}",
            id="architecture-unsupported",
            hint=f"Build on one of: {', '.join(sorted(set(_ARCHITECTURES.values())))}.",
        )
    return _ARCHITECTURES[machine]


def _is_intact(folder: Path, cache: Path, say: Say) -> bool:
    """Whether the finished bundle is what it says; if not, what is intact of it is a build that has begun."""
    bundle = _described(folder, DESCRIPTION)
    problems = checksums.damage(bundle, cache, say)
    if bundle.files and not problems:
        return True
    for path, problem in problems.items():
        say(f"{path} {problem}: making it again")
    write(replace(bundle, files=tuple(file for file in bundle.files if file.path not in problems)), _PROGRESS)
    folder.rename(_partial(folder))
    return False


def _begun(folder: Path) -> Bundle:
    """What is made so far of the bundle that is to be `folder`; what a cut-off build was making is gone."""
    partial = _partial(folder)
    partial.mkdir(exist_ok=True)
    for leftover in partial.glob(f"{_SCRATCH}*"):
        shutil.rmtree(leftover)
    return _described(partial, _PROGRESS)


def _described(folder: Path, name: str) -> Bundle:
    try:
        return read(folder, name)
    except MissingError:  # nothing is described, so nothing is made
        return Bundle(folder, folder.name.removesuffix(_PARTIAL), "build", _architecture(), {}, (), "", ())


def _make_missing(bundle: Bundle, say: Say, make: Make) -> Bundle:
    """The bundle with every file of the recipe."""
    missing = [artefact for artefact in RECIPE if not all(_is_made(bundle, path) for path in artefact.files)]
    _check_space(bundle)
    planned, spent = 0, 0.0
    for position, artefact in enumerate(missing):
        left = sum(later.seconds for later in missing[position:]) * (spent / planned if planned else 1)
        number = RECIPE.index(artefact) + 1
        say(
            f"{artefact.name} {artefact.version}: {artefact.verb}, {number} of {len(RECIPE)}, about {_duration(left)} left"
        )
        started = time.monotonic()
        made = _made(artefact, bundle, make)
        spent, planned = spent + time.monotonic() - started, planned + artefact.seconds
        kept = tuple(file for file in bundle.files if file.path not in artefact.files)
        bundle = replace(bundle, files=(*kept, *made))
        write(bundle, _PROGRESS)
    return bundle


def _is_made(bundle: Bundle, path: str) -> bool:
    """Whether an earlier build made the file; its content is checked when the bundle is used."""
    return any(
        file.path == path and bundle.path(path).is_file() and bundle.path(path).stat().st_size == file.size
        for file in bundle.files
    )


def _made(artefact: Artefact, bundle: Bundle, make: Make) -> tuple[File, ...]:
    """The artefact's files, made and in their place."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=bundle.folder) as scratch:
        try:
            make(artefact, Path(scratch), bundle.architecture)
        except LabError as error:
            raise _build_error(artefact, error, bundle.folder) from error
        return tuple(
            _moved(Path(scratch) / Path(path).name, bundle, path, artefact.made_from.source) for path in artefact.files
        )


def _moved(made: Path, bundle: Bundle, path: str, source: str) -> File:
    """A made file, on the disk and then in its place: a crash leaves the whole of it there, or nothing."""
    with made.open("rb") as file:
        os.fsync(file.fileno())
    described = File(path, checksums.sha256(made), made.stat().st_size, source)
    bundle.path(path).parent.mkdir(parents=True, exist_ok=True)
    made.replace(bundle.path(path))
    return described


def _finish(bundle: Bundle, folder: Path, cache: Path) -> None:
    """The complete bundle is described and in its final folder."""
    carried = tuple(
        Image(images.reference_of(bundle.path(artefact.path)), artefact.path, artefact.made_from.runs_on)
        for artefact in RECIPE
        if isinstance(artefact.made_from, ContainerImage)
    )
    web_image = next(image.reference for image in carried if image.archive == WEB_IMAGE)
    versions = {**VERSIONS, "nginx": web_image.rpartition(":")[2], "go": gomodules.compiler_version()}
    described = {file.path: file for file in bundle.files}
    files = tuple(described[path] for artefact in RECIPE for path in artefact.files)
    bundle = replace(bundle, versions=versions, images=carried, web_image=web_image, files=files)
    write(bundle)
    bundle.path(_PROGRESS).unlink()
    checksums.remember(bundle, cache)  # each was hashed when it was made
    bundle.folder.rename(folder)


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + _PARTIAL)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes > 1 else f"{max(seconds, 1):.0f} s"


@contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """No other process builds this bundle meanwhile."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - nothing but a build needs it

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"bundle {folder.name} is being built by another labctl: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_tools() -> None:
    """Every tool that a build starts is there."""
    found = {
        "golang-go": shutil.which("go"),
        "mmdebstrap": shutil.which("mmdebstrap"),
        "debian-archive-keyring": _KEYRING.exists(),
        "python3-pip": importlib.util.find_spec("pip"),
    }
    missing = [package for package, tool in found.items() if not tool]
    if missing:
        raise MissingError(
            f"building a bundle needs what is not on this machine: {', '.join(missing)}",
            id="tools-missing",
            hint=f"Type `apt-get install {' '.join(missing)}`.",
        )


def _check_space(bundle: Bundle) -> None:
    needed = SPACE - sum(file.size for file in bundle.files)
    if shutil.disk_usage(bundle.folder).free < needed:
        raise _disk_full(bundle.folder)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """What the disk refuses is an expected failure."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _disk_full(folder) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise MissingError(
                f"{error.filename or folder} cannot be written: {error.strerror}",
                id="bundle-not-writable",
                hint="Set XDG_CACHE_HOME to a folder that you may write to.",
            ) from error
        raise


def _build_error(artefact: Artefact, error: LabError, folder: Path) -> LabError:
    """What a failure while making an artefact means to the user."""
    if any("no space left on device" in line.casefold() for line in error.details):
        return _disk_full(folder)
    if error.id not in {"tool-failed", "tool-not-started"}:
        return error
    return MissingError(
        f"{artefact.path} could not be made: {error.message}",
        id="bundle-build-failed",
        hint="The lines above are the tool's. Type `labctl bundle build` to go on from here.",
        details=error.details,
    )


def _disk_full(folder: Path) -> MissingError:
    return MissingError(
        f"the disk is too full to build a bundle in {folder.parent}: it takes {SPACE >> 30} GiB there,"
        f" and up to {GO_CACHE_SPACE >> 30} GiB in Go's caches",
        id="disk-full",
        hint="Make space and type `labctl bundle build`: it goes on from here.",
    )
