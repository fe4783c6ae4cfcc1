"""The user who called sudo: what labctl makes as root in that user's folders belongs to the user."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Caller:
    """A user who runs labctl as root."""

    uid: int
    gid: int


def caller() -> Caller | None:
    """Return who called sudo; None for a user's own process, and for root's."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdecimal() and gid.isdecimal()) or int(uid) == 0:
        return None
    return Caller(int(uid), int(gid))


def owns(path: Path) -> bool:
    """Whether the path, or the nearest folder above it that is there, belongs to a user who called sudo."""
    user = caller()
    return user is not None and _nearest(path).stat().st_uid == user.uid


def another_owner(path: Path) -> str:
    """Return what to do about a path in this user's home that is another user's, or in a folder that is.

    Empty where there is none: what is outside of the home is not this user's to take.
    """
    there = _nearest(path)
    is_below_home = Path.home() in there.parents
    if not is_below_home or os.geteuid() == 0 or there.stat().st_uid == os.geteuid():
        return ""
    return f'{there} belongs to another user, as sudo may have left it: `sudo chown -R "$USER": {shlex.quote(str(there))}`.'


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there and can be seen."""
    return next(each for each in (path, *path.parents) if os.access(each, os.F_OK))


def give(path: Path) -> None:
    """Give what labctl has just made to the user who called sudo, if the folder that it is in is that user's."""
    user = caller()
    if user is not None and owns(path.parent):
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def make_folder(path: Path, mode: int) -> None:
    """Make the folder, and those above it, where they are missing; those that are there stay as they are."""
    for folder in reversed([each for each in (path, *path.parents) if not each.exists()]):
        folder.mkdir(mode if folder == path else 0o777, exist_ok=True)
        give(folder)
    path.mkdir(exist_ok=True)  # an error where something else has its name
