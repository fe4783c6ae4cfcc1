"""The record of the files that a render wrote into a folder, so that the next one can remove stale ones.

Checksums distinguish them from foreign files: a file that was replaced or changed is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from labctl.host import lab_folder
from labctl.host.files import write_changed
from labctl.host.paths import content

Checksums = Mapping[str, str]
"""The SHA-256 of each file, by its path below the folder."""


def read_record(folder: Path) -> Checksums:
    """Return what earlier renders wrote; nothing without a record, or if it is damaged."""
    try:
        written = json.loads(content(folder / lab_folder.RENDER_RECORD))
        return {str(name): str(checksum) for name, checksum in written.items() if _stays_inside(name)}
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError, TypeError):
        return {}  # the files of earlier renders are then kept


def write_record(folder: Path, checksums: Checksums) -> None:
    """Record what was written, or is about to be."""
    write_changed(folder, {lab_folder.RENDER_RECORD: json.dumps(dict(checksums), indent=1, sort_keys=True) + "\n"})


def checksums_of(contents: Mapping[str, str]) -> Checksums:
    """Return the checksums of files with these contents."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()}


def checksums_in(folder: Path, names: Iterable[str]) -> Checksums:
    """Return the checksums of these files as they are in the folder."""
    return {name: _checksum(folder / name) for name in names}


def remove_stale(folder: Path, earlier: Checksums, kept: Collection[str]) -> bool:
    """Remove the files of earlier renders that are not `kept`, and empty folders; return whether there were any."""
    stale = [
        folder / name
        for name, checksum in earlier.items()
        if name not in kept and _has_checksum(folder / name, checksum)
    ]
    for path in stale:
        path.unlink()
        _remove_empty(path.parent, folder)
    return bool(stale)


def _has_checksum(path: Path, checksum: str) -> bool:
    return path.is_file() and not path.is_symlink() and _checksum(path) == checksum


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _remove_empty(below: Path, folder: Path) -> None:
    """Remove a folder, and those between it and `folder`, as long as they are empty."""
    while below != folder and not any(below.iterdir()):
        below.rmdir()
        below = below.parent


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
