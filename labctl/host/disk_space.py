"""Free disk space: the check before a large write, and the error if there is too little."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from labctl.model.errors import MissingError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errno values of a full disk and of an exceeded quota."""
_MIB = 1 << 20


ANOTHER_CACHE = "set XDG_CACHE_HOME, the place of the cache, to a folder on another disk"


def require_room(folder: Path, needed: int, what: str, elsewhere: str = ANOTHER_CACHE) -> None:
    """Raise MissingError `disk-full`, with both sizes, if a folder's file system has less than `needed` bytes free.

    `elsewhere` is what the user can do to have it written to another disk.
    """
    if shutil.disk_usage(folder).free < needed:
        raise no_room_error(folder, needed, what, elsewhere)


def no_room_error(folder: Path, needed: int, what: str, elsewhere: str = ANOTHER_CACHE) -> MissingError:
    """Return the error for a folder whose file system has less than `needed` bytes free."""
    return MissingError(
        f"{what} needs {-(-needed // _MIB)} MiB in {folder}, but only {shutil.disk_usage(folder).free // _MIB} MiB are free",
        id="disk-full",
        hint=f"Free disk space there, or {elsewhere}. Then run the same command again.",
    )
