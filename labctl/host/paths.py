"""The folders that labctl uses, by the XDG variables on every system."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from platformdirs.unix import Unix

from labctl.host.caller import make_folder, ownership_hint
from labctl.model.errors import MissingError, UsageError

PRIVATE = 0o700
"""The mode of folders for their owner alone."""
READABLE = 0o644
"""The mode of files that every user may read."""
OTHERS = 0o077
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
BUNDLE = "LABCTL_BUNDLE"
"""The environment variable for a bundle's folder, or a reference to a registry, as `--bundle`."""
OCI = "oci://"
"""The prefix that distinguishes a reference to a registry from a folder."""
BLOBS = "blobs"
"""The folder below the cache with the blobs that downloads, pulls and pushes share; `blobs.lock` beside it."""


def state_home() -> Path:
    """Return the folder with a folder for each lab: `$XDG_STATE_HOME/labctl`, else `~/.local/state/labctl`."""
    return _folder("user_state_path")


def state(lab_name: str) -> Path:
    """Return the folder of this lab, which may not exist yet."""
    return state_home() / lab_name


def cache() -> Path:
    """Return the folder for what can be created again: `$XDG_CACHE_HOME/labctl`, else `~/.cache/labctl`."""
    return _folder("user_cache_path")


def configuration() -> Path:
    """Return the folder for the user's files: `$XDG_CONFIG_HOME/labctl`, else `~/.config/labctl`; it may not exist."""
    return _folder("user_config_path")


def data() -> Path:
    """Return the folder for files that other programs read: `$XDG_DATA_HOME/labctl`, else `~/.local/share/labctl`."""
    return _folder("user_data_path")


def home() -> Path:
    """Return the user's home folder. Raises UsageError `home-unknown`."""
    return _absolute(Path(os.path.expanduser("~")))  # noqa: PTH111 - Path.home raises RuntimeError


def content(path: Path) -> bytes:
    """Return the content of a file, or of /dev/null. Raises OSError for anything else: reading a FIFO could block."""
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
    """Return the path with its links followed. Keep a link to itself, for which `Path.resolve` raises RuntimeError."""
    return Path(os.path.realpath(path))


def remove_tree(folder: Path) -> None:
    """Remove a folder of labctl with its content; if it is a link to another disk, remove both."""
    if folder.exists():
        shutil.rmtree(real(folder))
    if folder.is_symlink():
        folder.unlink()


def named_bundle() -> str | None:
    """Return the bundle's folder, or reference, from the environment; None if it is not set."""
    return os.environ.get(BUNDLE) or None


def private_folder(path: Path) -> Path:
    """Create a folder of labctl that only its owner may enter; return the path.

    Raises MissingError `folder-not-made` if this user cannot create or use it.
    """
    new_folder(path)
    status = path.stat()
    if status.st_uid == os.geteuid() and status.st_mode & OTHERS:
        path.chmod(PRIVATE)
    if not os.access(path, os.W_OK | os.X_OK):
        raise _creation_error(path, os.strerror(errno.EACCES))
    return path


def new_folder(path: Path) -> Path:
    """Create the folder for its owner alone, if it is missing; return the path. Leave an existing folder as it is.

    Raises MissingError `folder-not-made`.
    """
    try:
        make_folder(path, PRIVATE)
    except OSError as error:
        raise _creation_error(path, error.strerror) from error
    return path


def _creation_error(path: Path, why: str | None) -> MissingError:
    return MissingError(
        f"cannot create the folder {path}: {why}",
        id="folder-not-made",
        hint=ownership_hint(path) or "Make it writable, or set XDG_STATE_HOME and XDG_CACHE_HOME to writable folders.",
    )


def _folder(name: str) -> Path:
    try:
        path: Path = getattr(Unix("labctl"), name)
    except RuntimeError as error:
        raise _unknown_home() from error
    return _absolute(path)


def _absolute(path: Path) -> Path:
    is_from_nowhere = os.environ.get("HOME") == "" and (path == Path("/") or path.parts[1].startswith("."))
    if not path.is_absolute() or is_from_nowhere:
        raise _unknown_home()
    return path


def _unknown_home() -> UsageError:
    return UsageError(
        f"the user's home folder is unknown: HOME is {os.environ.get('HOME', 'not set')!r}",
        id="home-unknown",
        hint="Set HOME, or XDG_STATE_HOME and XDG_CACHE_HOME, to absolute paths.",
    )
