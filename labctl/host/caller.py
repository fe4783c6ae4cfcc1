"""Ownership of files that labctl creates as root in the folders of the user who called sudo."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Caller:
    """A user who runs labctl through sudo."""

    uid: int
    gid: int


def caller() -> Caller | None:
    """Return who called sudo; None if labctl runs without sudo, or was called by root."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdecimal() and gid.isdecimal()) or int(uid) == 0:
        return None
    return Caller(int(uid), int(gid))


def home() -> Path:
    """Return this user's home folder; the relative path `~` if it is unknown."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises RuntimeError


def caller_owns(path: Path) -> bool:
    """Return whether the path, or the nearest existing folder above it, belongs to a user who called sudo."""
    user = caller()
    return user is not None and _nearest_existing(path).stat().st_uid == user.uid


def ownership_hint(path: Path) -> str:
    """Return a hint to take ownership of a path in this user's home that belongs to another user; else an empty text.

    Paths outside the home may belong to other users for good reason.
    """
    existing = _nearest_existing(path)
    is_below_home = home() in existing.parents
    if not is_below_home or os.geteuid() == 0 or existing.stat().st_uid == os.geteuid():
        return ""
    return f'{existing} belongs to another user, perhaps after a run with sudo: `sudo chown -R "$USER": {shlex.quote(str(existing))}`.'


def _nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest existing folder above it that is visible."""
    return next(each for each in (path, *path.parents) if os.access(each, os.F_OK))


def give_to_caller(path: Path) -> None:
    """Give a new path to the user who called sudo, if its folder belongs to that user."""
    user = caller()
    if user is not None and caller_owns(path.parent):
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def make_folder(path: Path, mode: int) -> None:
    """Create the folder and its parents, if they are missing. Leave existing folders as they are."""
    if path.is_dir():
        return
    for folder in reversed([each for each in (path, *path.parents) if not each.exists()]):
        folder.mkdir(mode if folder == path else 0o777, exist_ok=True)
        give_to_caller(folder)
    path.mkdir(exist_ok=True)  # raises if something else has this name
