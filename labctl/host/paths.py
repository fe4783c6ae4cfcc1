"""Where labctl keeps things: the XDG folders, on every system alike."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from platformdirs.unix import Unix

from labctl.host.caller import another_owner, make_folder
from labctl.model.errors import MissingError, UsageError

PRIVATE = 0o700
OTHERS = 0o077
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
BUNDLE = "LABCTL_BUNDLE"
"""The variable that names a bundle's folder, as `--bundle` does."""


def state_home() -> Path:
    """The folder that holds one folder a lab: `$XDG_STATE_HOME/labctl`, else `~/.local/state/labctl`."""
    return _folder("user_state_path")


def state(lab_name: str) -> Path:
    """The folder of everything labctl keeps about this lab; it may not exist yet."""
    return state_home() / lab_name


def cache() -> Path:
    """The folder of what can be made again: `$XDG_CACHE_HOME/labctl`, else `~/.cache/labctl`."""
    return _folder("user_cache_path")


def configuration() -> Path:
    """The folder of what the user writes: `$XDG_CONFIG_HOME/labctl`, else `~/.config/labctl`; it may not exist."""
    return _folder("user_config_path")


def data() -> Path:
    """The folder of what other programs read: `$XDG_DATA_HOME/labctl`, else `~/.local/share/labctl`."""
    return _folder("user_data_path")


def home() -> Path:
    """Return the user's home folder. Raises UsageError `home-unknown`."""
    return _absolute(Path(os.path.expanduser("~")))  # noqa: PTH111 - Path's own raises what nobody expects


def content(path: Path) -> bytes:
    """Return what is in a file, or in /dev/null. Raises OSError for what is none: nobody may ever write to a FIFO."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        opened = os.fstat(descriptor)
        kind = stat.S_IFMT(opened.st_mode)
        if kind != stat.S_IFREG and not os.path.samestat(opened, Path(os.devnull).stat()):
            number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
            raise OSError(number, f"it is {_KINDS.get(kind, 'a device')}, not a file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def real(path: Path) -> Path:
    """Return the path with its links followed. One that leads to itself stays; `Path.resolve` raises RuntimeError."""
    return Path(os.path.realpath(path))


def remove_tree(folder: Path) -> None:
    """Remove a folder of labctl's with all that is in it, be it there by a link to another disk."""
    if folder.exists():
        shutil.rmtree(real(folder))
    if folder.is_symlink():
        folder.unlink()


def named_bundle() -> Path | None:
    """Return the folder of the bundle that the environment names, if it names one."""
    return Path(name) if (name := os.environ.get(BUNDLE)) else None


def private_folder(path: Path) -> Path:
    """Make a folder of labctl's own that only its owner may enter; returns `path`.

    Raises MissingError if it cannot be made, or used by this user.
    """
    new_folder(path)
    there = path.stat()
    if there.st_uid == os.geteuid() and there.st_mode & OTHERS:
        path.chmod(PRIVATE)
    if not os.access(path, os.W_OK | os.X_OK):
        raise _not_made(path, os.strerror(errno.EACCES))
    return path


def new_folder(path: Path) -> Path:
    """Make the folder for its owner alone, where it is missing: one that is there may be the user's, and stays as it is.

    Returns `path`. Raises MissingError if it cannot be made.
    """
    try:
        make_folder(path, PRIVATE)
    except OSError as error:
        raise _not_made(path, error.strerror) from error
    return path


def _not_made(path: Path, why: str | None) -> MissingError:
    return MissingError(
        f"cannot make the folder {path}: {why}",
        id="folder-not-made",
        hint=another_owner(path) or "Make it writable, or set XDG_STATE_HOME and XDG_CACHE_HOME to folders that are.",
    )


def _folder(name: str) -> Path:
    try:
        path: Path = getattr(Unix("labctl"), name)
    except RuntimeError as error:
        raise _homeless() from error
    return _absolute(path)


def _absolute(path: Path) -> Path:
    is_from_nowhere = os.environ.get("HOME") == "" and (path == Path("/") or path.parts[1].startswith("."))
    if not path.is_absolute() or is_from_nowhere:
        raise _homeless()
    return path


def _homeless() -> UsageError:
    return UsageError(
        f"the user's home folder is not known: HOME is {os.environ.get('HOME', 'not set')!r}",
        id="home-unknown",
        hint="Set HOME to the whole path of a folder; or XDG_STATE_HOME and XDG_CACHE_HOME.",
    )
