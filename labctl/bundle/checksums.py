"""Verification of a bundle's files by their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

from labctl.bundle.format import Bundle, File
from labctl.host.files import write
from labctl.model.errors import MissingError
from labctl.model.events import Progress


def verify(bundle: Bundle, cache: Path, report: Progress) -> None:
    """Hash every file of the bundle, and compare it with bundle.yaml.

    Raises one MissingError, `bundle-damaged`, that names every missing or changed file.
    """
    forget(bundle.id, cache)
    verify_once(bundle, cache, report)


def verify_once(bundle: Bundle, cache: Path, report: Progress) -> bool:
    """Compare every file with bundle.yaml, and hash only those that changed since they were last hashed.

    An unchanged file is recognised by the size, modification time and inode recorded below `cache`. Return whether any
    file had to be hashed. Raises as `verify`.
    """
    hashed = bool(_changed_files(bundle, cache))
    if problems := find_damage(bundle, cache, report):
        named = "; ".join(f"{path} {problem}" for path, problem in problems.items())
        raise MissingError(
            f"bundle {bundle.folder} is damaged: {named}",
            id="bundle-damaged",
            hint=f"Run `labctl bundle {bundle.maker}`, which keeps intact files. If the bundle was copied, copy it again.",
        )
    return hashed


def find_damage(bundle: Bundle, cache: Path, report: Progress) -> dict[str, str]:
    """Return the problem of each missing or changed file, by path. Hashes as `verify_once` does."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - 15 ms, and most commands hash nothing

    files = _changed_files(bundle, cache)
    if not files:
        return {}
    report(f"checking {len(files)} files of bundle {bundle.id}, {sum(file.size for file in files) >> 20} MiB")
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = zip(files, pool.map(lambda file: _problem(bundle, file), files), strict=True)
        problems = {file.path: problem for file, problem in results if problem}
    record_hashed(replace(bundle, files=tuple(file for file in bundle.files if file.path not in problems)), cache)
    return problems


def record_hashed(bundle: Bundle, cache: Path) -> None:
    """Record every file of the bundle as hashed and correct until it changes."""
    record = _record(bundle.id, cache)
    stamps = [stamp for file in bundle.files if (stamp := _stamp(bundle, file))]
    write(record, json.dumps(stamps, indent=1).encode())


def forget(bundle_id: str, cache: Path) -> None:
    """Remove the record of a bundle's hashed files."""
    _record(bundle_id, cache).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(bundle: Bundle, file: File) -> str:
    try:
        size = bundle.path(file.path).stat().st_size
        if size != file.size:
            return f"has {size} bytes instead of {file.size}"
        checksum = sha256(bundle.path(file.path))
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    return "" if checksum == file.sha256 else f"has sha256 {checksum} instead of {file.sha256}"


def _changed_files(bundle: Bundle, cache: Path) -> tuple[File, ...]:
    """Return the files that changed since they were last hashed."""
    try:
        known = frozenset(json.loads(_record(bundle.id, cache).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        known = frozenset()  # the record is only a cache: without it, all files are hashed again
    return tuple(file for file in bundle.files if _stamp(bundle, file) not in known)


def _record(bundle_id: str, cache: Path) -> Path:
    return cache / "checked" / f"{bundle_id}.json"


def _stamp(bundle: Bundle, file: File) -> str | None:
    """Return a key of a file's expected checksum, size, modification time and inode; None if it cannot be accessed."""
    try:
        status = bundle.path(file.path).stat()
    except OSError:
        return None  # it counts as not hashed, and hashing it reports the error
    return f"{file.path} {file.sha256} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
