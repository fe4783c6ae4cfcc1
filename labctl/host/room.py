"""Room on a disk: required before something large is written, and told of where there was not enough."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from labctl.model.errors import MissingError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The numbers of the errors of a disk, or of a user's share of it, that is full."""
_MIB = 1 << 20


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise MissingError `disk-full`, with both sizes, if the file system of a folder has no room for so many bytes."""
    if shutil.disk_usage(folder).free < needed:
        raise no_room(folder, needed, what)


def no_room(folder: Path, needed: int, what: str) -> MissingError:
    """Return the error for a file system that has no room for so many bytes."""
    return MissingError(
        f"{what} needs {-(-needed // _MIB)} MiB in {folder}, and {shutil.disk_usage(folder).free // _MIB} MiB are free",
        id="disk-full",
        hint="Free disk space there, or set XDG_CACHE_HOME, the place of the cache, to a folder on another disk. Then run the same command again.",
    )
