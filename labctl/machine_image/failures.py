"""Errors of building a machine image, translated for the user."""

from __future__ import annotations

import errno
import getpass
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.bundle.build.makers import check_tools
from labctl.bundle.format import Bundle
from labctl.host.disk_space import FULL
from labctl.host.process import LAST_LINES
from labctl.model.errors import LabError, MissingError

SPACE = 6 << 30
"""The disk space in bytes for building a machine image: system, disk and box exist at the same time."""
_ARCHITECTURES = {"x86_64", "amd64"}
_IDS = 1 << 16
"""How many subordinate ids a system needs that is installed without root."""
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
RESUME = "Run `labctl bundle build --with vm` to try again."


def check_machine(bundle: Bundle) -> None:
    """Check that this machine can make the machine image that the bundle lacks.

    Raises MissingError `architecture-unsupported`, `tools-missing` or `subordinate-ids-missing`.
    """
    if platform.machine() not in _ARCHITECTURES:
        raise MissingError(
            f"machine images are made for x86-64, but this machine is {platform.machine()}",
            id="architecture-unsupported",
            hint="Use `provider: docker`, whose nodes run here, or make the lab on an x86-64 machine.",
        )
    try:
        check_tools()
    except MissingError as error:
        raise MissingError(
            f"bundle {bundle.id} has no machine image, and {error.message}",
            id="tools-missing",
            hint=f"{error.hint} Or copy the bundle from a machine that ran `labctl bundle build --with vm`.",
        ) from error
    if os.geteuid() != 0:
        _check_subordinate_ids(getpass.getuser(), os.getuid())


def _check_subordinate_ids(user: str, number: int) -> None:
    """Check that the user has subordinate ids."""
    lacking = [path for path in _SUBORDINATE if not _grants(path, user, number)]
    if lacking:
        raise MissingError(
            f"{user} has no subordinate ids in {' and '.join(map(str, lacking))}",
            id="subordinate-ids-missing",
            hint=f"Run `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`;"
            " if that range is another user's, choose another one of 65536 ids.",
        )


def _grants(path: Path, user: str, number: int) -> bool:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False  # without such a file, nothing is granted
    granted = [re.fullmatch(r"([^:]+):\d+:(\d+)", line.strip()) for line in lines]
    return any(match and match[1] in {user, str(number)} and int(match[2]) >= _IDS for match in granted)


def check_space(folder: Path) -> None:
    """Raise MissingError `disk-full` if the disk has no room for making a machine image."""
    if shutil.disk_usage(folder).free < SPACE:
        raise _disk_full(folder)


@contextmanager
def image_errors(bundle: Bundle) -> Iterator[None]:
    """Translate disk errors and tool failures into `disk-full`, `bundle-not-writable` or `machine-image-failed`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _disk_full(bundle.folder) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise MissingError(
                f"{error.filename or bundle.folder} cannot be written: {error.strerror}",
                id="bundle-not-writable",
                hint="A machine image is kept in its bundle's folder: copy the bundle to a folder that you may write to.",
            ) from error
        raise
    except LabError as error:
        if error.id == "disk-full":
            raise _disk_full(bundle.folder) from error
        if error.id not in {"tool-failed", "tool-not-started"}:
            raise
        raise MissingError(
            f"the machine image of {bundle.id} could not be made",
            id="machine-image-failed",
            hint=f"{error.hint} {RESUME}".lstrip(),
            details=(error.message, *error.details[-LAST_LINES + 1 :]),
        ) from error


def _disk_full(folder: Path) -> MissingError:
    return MissingError(
        f"not enough disk space to make a machine image in {folder}: it needs {SPACE >> 30} GiB there",
        id="disk-full",
        hint=f"Free disk space. {RESUME}",
    )
