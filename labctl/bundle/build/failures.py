"""Errors of a build, translated for the user."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from labctl.bundle import unfinished
from labctl.bundle.build.ingredients import Artefact
from labctl.bundle.build.recipe import GO_CACHE_SPACE, SPACE
from labctl.host.process import LAST_LINES
from labctl.model.errors import LabError, MissingError


def check_space(folder: Path, present: int) -> None:
    """Raise MissingError `disk-full` if there is no room for the rest of a bundle of which `present` bytes exist."""
    if shutil.disk_usage(folder).free < SPACE - present:
        raise _disk_full(folder)


def disk_errors(folder: Path) -> AbstractContextManager[None]:
    """Translate disk errors into MissingError `disk-full` or `bundle-not-writable`."""
    return unfinished.disk_errors(folder, _disk_full)


def build_error(artefact: Artefact, error: LabError, folder: Path) -> LabError:
    """Translate the failure of an artefact into `disk-full` or `bundle-build-failed`; return other errors unchanged."""
    if error.id == "disk-full":
        return _disk_full(folder)
    if error.id not in {"tool-failed", "tool-not-started"}:
        return error
    return MissingError(
        f"{artefact.path} of the bundle could not be made",
        id="bundle-build-failed",
        hint=f"{error.hint} Run `labctl bundle build` again to resume.".lstrip(),
        details=(error.message, *error.details[-LAST_LINES + 1 :]),
    )


def _disk_full(folder: Path) -> MissingError:
    return MissingError(
        f"not enough disk space to build a bundle in {folder.parent}: it needs {SPACE >> 30} GiB there,"
        f" and up to {GO_CACHE_SPACE >> 30} GiB for Go's caches, and only {shutil.disk_usage(folder.parent).free >> 20} MiB"
        " are free",
        id="disk-full",
        hint="Free disk space, then run `labctl bundle build` to resume.",
    )
