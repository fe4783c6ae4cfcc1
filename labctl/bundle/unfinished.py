"""Unfinished bundles: what an interrupted run has finished, and files that are written atomically."""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from labctl.bundle import checksums
from labctl.bundle.format import PARTIAL, Bundle, File, read, write
from labctl.host import processor, wait
from labctl.host.disk_space import FULL
from labctl.host.failpoints import failpoint
from labctl.host.paths import remove_tree
from labctl.host.wait import Pending
from labctl.model.errors import MissingError
from labctl.model.events import Progress

PROGRESS = "partial.yaml"
"""The file in an unfinished bundle's folder that describes the finished files."""
SCRATCH = ".making-"
"""The name prefix of folders in which a file is being made."""
OTHER_SECONDS = 7200.0
"""How long another labctl may take to make the same bundle."""
ORPHAN_SECONDS = 60.0
"""How long a tool may keep running after its labctl was killed."""
_ARCHITECTURES = ("amd64", "arm64")


@contextmanager
def disk_errors(folder: Path, full: Callable[[Path], MissingError]) -> Iterator[None]:
    """Translate disk errors into the MissingError that `full` returns, or into `bundle-not-writable`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise full(folder) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise MissingError(
                f"{error.filename or folder} cannot be written: {error.strerror}",
                id="bundle-not-writable",
                hint="Set XDG_CACHE_HOME to a writable folder.",
            ) from error
        raise


def architecture() -> str:
    """Return Go's name of this machine's architecture. Raises MissingError `architecture-unsupported`."""
    machine = processor.architecture()
    if machine not in _ARCHITECTURES:
        raise MissingError(
            f"bundles cannot be made for {machine}",
            id="architecture-unsupported",
            hint=f"Make them on one of: {', '.join(_ARCHITECTURES)}.",
        )
    return machine


def reopen(bundle: Bundle, problems: Mapping[str, str], report: Progress) -> None:
    """Turn a damaged bundle into an unfinished one with its intact files, in place of another unfinished one."""
    for path, problem in problems.items():
        report(f"{path} {problem}: making it again")
    write(replace(bundle, files=tuple(file for file in bundle.files if file.path not in problems)), PROGRESS)
    partial = _partial(bundle.folder)
    remove_tree(partial)  # of a run that was interrupted before the bundle was copied here or pulled
    bundle.folder.rename(partial)


def open_unfinished(folder: Path, maker: str) -> Bundle:
    """Open the unfinished bundle of `folder` as an interrupted run left it; remove that run's scratch folders."""
    partial = _partial(folder)
    partial.mkdir(exist_ok=True)
    for leftover in partial.glob(f"{SCRATCH}*"):
        wait.until(
            functools.partial(try_remove, leftover),
            what=f"the removal of {leftover}",
            timeout=ORPHAN_SECONDS,
            hint="A tool of an earlier run that was killed still writes there: stop that process.",
        )
    return read_description(partial, PROGRESS, maker)


def try_remove(folder: Path) -> Literal[True] | Pending:
    """Remove a folder; return Pending while a tool of a killed run still writes to it."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if folder.exists() and error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
            raise
    return Pending("it is not empty") if folder.exists() else True


def read_description(folder: Path, name: str, maker: str) -> Bundle:
    """Return the bundle that file `name` describes; a bundle without files if the file is missing or invalid."""
    try:
        return read(folder, name)
    except MissingError:
        return Bundle(folder, folder.name.removesuffix(PARTIAL), maker, architecture(), {}, (), "", ())


def is_made(bundle: Bundle, path: str) -> bool:
    """Return whether an earlier run made the file; its content is verified when the bundle is used."""
    return any(
        file.path == path and bundle.path(path).is_file() and bundle.path(path).stat().st_size == file.size
        for file in bundle.files
    )


def move_into_place(finished: Path, bundle: Bundle, path: str, source: str) -> File:
    """Sync a file to disk and move it into place, so that a crash leaves the whole file or none."""
    with finished.open("rb") as file:
        os.fsync(file.fileno())
    described = File(path, checksums.sha256(finished), finished.stat().st_size, source)
    bundle.path(path).parent.mkdir(parents=True, exist_ok=True)
    failpoint("artefact")
    finished.replace(bundle.path(path))
    return described


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + PARTIAL)
