"""Installing an incoming bundle into the cache: all of it, verified, or nothing."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle import checksums
from labctl.bundle.format import DESCRIPTION, Bundle, load, read
from labctl.bundle.image_archives import reassemble
from labctl.bundle.layout import MACHINE, Identity, IncomingBundle, Part, not_a_bundle_error
from labctl.bundle.spans import Content, Span, chunks, digest_of, read_all, size_of
from labctl.bundle.unfinished import OTHER_SECONDS
from labctl.host import locks
from labctl.host.caller import give_to_caller, make_folder
from labctl.host.disk_space import require_room
from labctl.host.failpoints import failpoint
from labctl.host.paths import PRIVATE
from labctl.model.errors import LabError, MissingError
from labctl.model.events import Progress
from labctl.transfer.store import LINK_REFUSED

INCOMING = ".incoming-"
_ARRIVING = ".arriving.yaml"
"""The name of the description until all files are written. No file of a bundle can have it."""
_PROGRAMS = "bin/"
_EXECUTABLE, _PLAIN = 0o755, 0o644
_MIB = 1 << 20


@dataclass(frozen=True)
class Source:
    """The source of an incoming bundle."""

    name: str
    """The file or the reference, for messages."""
    blob: Callable[[str], Content]
    """Returns a blob by its digest. Raises LabError if there is none."""
    damaged_error: Callable[[str, str], LabError]
    """Returns the error for a blob, from its expected and its actual digest."""
    may_link: bool = False
    """Whether each blob is a file of its own in the cache, which a file of the bundle may be a hard link to."""


def install(arriving: IncomingBundle, identity: Identity, source: Source, cache: Path, report: Progress) -> Bundle:
    """Complete the bundle in the cache, and return it. Wait for another labctl that makes the same bundle.

    If the cache has a bundle with this id, its description must be the same; missing and damaged files are written
    again. Raises MissingError `bundle-differs`, `bundle-artefact`, `disk-full`, and what `source` raises.
    """
    folder = cache / "bundles" / identity.id
    make_folder(folder.parent, PRIVATE)
    with locks.exclusive(folder.with_name(f"{identity.id}.lock"), report, timeout=OTHER_SECONDS):
        parts = missing_parts(arriving, identity, source.name, cache, report)
        if folder.exists():
            bundle = load(folder)
            if parts:
                _write_all(parts, bundle, source, report)
                checksums.verify_once(bundle, cache, report)
            return bundle
        with _incoming(folder) as incoming:
            _write(_description(arriving), incoming / _ARRIVING, source)
            bundle = read(incoming, _ARRIVING)
            _check(bundle, arriving, identity, source)
            _write_all([part for part in parts if part.path != DESCRIPTION], bundle, source, report)
            (incoming / _ARRIVING).replace(incoming / DESCRIPTION)
            checksums.record_hashed(bundle, cache)  # each file was hashed when it was written
            load(incoming)
            failpoint("installed")
            incoming.replace(folder)
        return load(folder)


def missing_parts(
    arriving: IncomingBundle, identity: Identity, name: str, cache: Path, report: Progress
) -> tuple[Part, ...]:
    """Return the files of the bundle that are missing or damaged in the cache. Keep a machine image that was made here.

    Raises MissingError `bundle-differs` if the cache has a different bundle with this id.
    """
    folder = cache / "bundles" / identity.id
    if not folder.exists():
        return arriving.parts
    bundle = _load(folder)
    arrives, there = _description(arriving).digest, digest_of((folder / DESCRIPTION).read_bytes())
    if arrives != there:
        raise MissingError(
            f"{name} and the cache have different bundles {bundle.id}: its {DESCRIPTION} has the digest {arrives}, and "
            f"{folder / DESCRIPTION} has {there}",
            id="bundle-differs",
            hint=f"To replace the one in the cache, run `labctl bundle remove {bundle.id}` first.",
        )
    damaged = checksums.find_damage(bundle, cache, report)
    adds_machine = not (folder / MACHINE / "machine.yaml").exists()
    return tuple(
        part for part in arriving.parts if part.path in damaged or (adds_machine and part.path.startswith(MACHINE))
    )


def _load(folder: Path) -> Bundle:
    try:
        return load(folder)
    except MissingError as error:
        if error.id != "bundle-not-found":  # `labctl bundle remove` finds only folders with a description
            error.hint = f"To replace it, run `labctl bundle remove {folder.name}` first."
        raise


@contextmanager
def _incoming(folder: Path) -> Iterator[Path]:
    """Create the folder of an incoming bundle, in place of one that a killed run left; remove it if an error occurs."""
    path = folder.with_name(f"{INCOMING}{folder.name}")
    if path.exists():
        shutil.rmtree(path)
    make_folder(path, 0o755)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path)
        raise


def _check(bundle: Bundle, arriving: IncomingBundle, identity: Identity, source: Source) -> None:
    """Raise MissingError `bundle-artefact` if the description and the manifest do not describe the same bundle."""
    if (bundle.id, bundle.architecture) != (identity.id, identity.architecture):
        raise not_a_bundle_error(source.name, f"its {DESCRIPTION} is that of {bundle.id} for {bundle.architecture}")
    listed = {file.path for file in bundle.files}
    travelling = {part.path for part in arriving.parts if part.path != DESCRIPTION}
    if lacking := sorted(listed - travelling):
        raise not_a_bundle_error(source.name, f"it lacks {', '.join(lacking)}")
    if others := sorted(path for path in travelling - listed if not path.startswith(MACHINE)):
        raise not_a_bundle_error(source.name, f"its {DESCRIPTION} does not list {', '.join(others)}")


def _write_all(parts: Sequence[Part], bundle: Bundle, source: Source, report: Progress) -> None:
    """Write files of a bundle into its folder, descriptions last."""
    sizes = {file.path: file.size for file in bundle.files}
    sums = {file.path: f"sha256:{file.sha256}" for file in bundle.files}
    ordered = sorted(parts, key=lambda part: part.path.endswith(".yaml"))
    copied = [part for part in ordered if part.is_skeleton or not source.may_link]
    require_room(bundle.folder, sum(sizes.get(part.path, part.size) for part in copied), f"the bundle {bundle.id}")
    total, written = sum(sizes.get(part.path, part.size) for part in ordered), 0
    for part in ordered:
        report(f"writing {part.path}, {written // _MIB} of {total // _MIB} MiB")
        target = bundle.path(part.path)
        make_folder(target.parent, 0o755)
        digest = _write(part, target, source, sizes.get(part.path))
        if digest != sums.get(part.path, digest):
            raise not_a_bundle_error(
                source.name, f"{part.path} has the digest {digest}, and the bundle lists {sums[part.path]}"
            )
        written += sizes.get(part.path, part.size)


def _write(part: Part, target: Path, source: Source, size: int | None = None) -> str:
    """Write a file, for which the bundle lists this size, atomically and verified; return its digest."""
    content = source.blob(part.digest)
    temporary = target.with_name(f".{target.name}.labctl-{secrets.token_hex(4)}")
    try:
        if part.is_skeleton:
            digest = _copy(_pieces(part, read_all(content), source, size), temporary, source)
        elif source.may_link and isinstance(content, Span) and _try_link(content.path, temporary):
            digest = digest_of(content)
            _require_digest(part.digest, digest, source)
        else:
            digest = _copy([(part.digest, content)], temporary, source)
        temporary.chmod(_EXECUTABLE if part.path.startswith(_PROGRAMS) else _PLAIN)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _try_link(path: Path, link: Path) -> bool:
    """Make a hard link; return whether the file system and the file's owner allow it."""
    try:
        link.hardlink_to(path)
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        return False
    return True


def _pieces(part: Part, skeleton: bytes, source: Source, size: int | None) -> list[tuple[str | None, Content]]:
    _require_digest(part.digest, digest_of(skeleton), source)
    try:
        pieces = list(reassemble(skeleton, source.blob))
    except (ValueError, LookupError, TypeError) as error:
        raise not_a_bundle_error(source.name, f"{part.path} cannot be put together: {error}") from error
    if (together := sum(size_of(content) for _, content in pieces)) != size:  # the check for room counted `size` bytes
        raise not_a_bundle_error(source.name, f"{part.path} has {together} bytes, and the bundle lists {size}")
    return pieces


def _copy(pieces: Iterable[tuple[str | None, Content]], target: Path, source: Source) -> str:
    """Write the pieces to a new file, verify their digests, and return the digest of the whole."""
    hashed = hashlib.sha256()
    with target.open("xb") as file:
        give_to_caller(target)
        for digest, content in pieces:
            own = hashlib.sha256()
            for chunk in chunks(content):
                file.write(chunk)
                hashed.update(chunk)
                own.update(chunk)
            if digest:
                _require_digest(digest, f"sha256:{own.hexdigest()}", source)
        file.flush()
        os.fsync(file.fileno())
    return f"sha256:{hashed.hexdigest()}"


def _require_digest(digest: str, actual: str, source: Source) -> None:
    if actual != digest:
        raise source.damaged_error(digest, actual)


def _description(arriving: IncomingBundle) -> Part:
    return next(part for part in arriving.parts if part.path == DESCRIPTION)
