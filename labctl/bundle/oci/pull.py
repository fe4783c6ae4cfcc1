"""Pulling a bundle: only what the cache lacks is fetched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from labctl.bundle.format import Bundle, load
from labctl.bundle.image_archives import referenced_blobs
from labctl.bundle.layout import IncomingBundle, Part, choose, identity, incoming_bundle, not_a_bundle_error
from labctl.bundle.oci.install import Source, install, missing_parts
from labctl.bundle.oci.references import PulledReference, find_pulled, record_pulled
from labctl.bundle.spans import Span
from labctl.bundle.unfinished import OTHER_SECONDS
from labctl.host import locks
from labctl.host.caller import make_folder
from labctl.host.disk_space import require_room
from labctl.host.paths import BLOBS, PRIVATE
from labctl.model.errors import LabError, MissingError
from labctl.model.events import Progress
from labctl.transfer.fetch import fetch
from labctl.transfer.reference import Reference
from labctl.transfer.registry import Registry
from labctl.transfer.store import Blob, BlobStore

UNREACHABLE = frozenset(
    {"source-unreachable", "source-cut-off", "source-silent", "source-failing", "proxy-unreachable", "rate-limited"}
)
"""The errors of a registry that cannot report what a reference names now."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class PullResult:
    """A bundle that was pulled."""

    bundle: Bundle
    digest: str
    """The digest of its manifest."""
    fetched: int = 0
    """Bytes of blobs that the cache lacked."""
    changed: bool = False
    """Whether the cache lacked the bundle or a part of it."""
    note: str = ""
    """A note for the user, if there is one."""


def pull(
    reference: Reference,
    registry: Registry,
    architecture: str,
    cache: Path,
    report: Progress,
    *,
    may_move: bool,
    needs_registry: bool,
) -> PullResult:
    """Complete this architecture's bundle in the cache. Files that the cache has are not fetched again.

    Unless `needs_registry`, use the bundle that was pulled before if the registry cannot be reached. A reference that
    names another bundle than at the last pull is an error unless it `may_move`. Raises MissingError `reference-moved`,
    those of `choose`, `incoming_bundle`, `identity` and `install`, and those of the registry.
    """
    name, before = str(reference), find_pulled(reference, cache)
    try:
        index = registry.manifest(reference)
    except LabError as error:
        if before is None or needs_registry or error.id not in UNREACHABLE:
            raise
        return PullResult(load(before.folder(cache)), before.digest, note=f"using the earlier pull: {error.message}")
    digest = choose(index, architecture, name, partial(registry.document, reference))
    moved = f"{name} was {before.digest}, and is now {digest}" if before and before.digest != digest else ""
    if moved and before and not may_move:
        raise MissingError(
            moved,
            id="reference-moved",
            hint=f"`labctl bundle pull {name}` pulls the new one. The old one stays in {before.folder(cache)}.",
        )
    manifest = incoming_bundle(registry.manifest(replace(reference, digest=digest)), name)
    make_folder(cache, PRIVATE)
    with locks.exclusive(cache / f"{BLOBS}.lock", report, timeout=OTHER_SECONDS):
        arrived = _Pull(manifest, reference, registry, BlobStore(cache / BLOBS), report)
        bundle = arrived.install(architecture, cache)
        record_pulled(reference, PulledReference(digest, bundle.id), cache)
    return PullResult(bundle, digest, arrived.fetched, arrived.changed, moved)


class _Pull:
    """The transfer of a bundle from a registry through the blob store into the cache."""

    def __init__(
        self, manifest: IncomingBundle, reference: Reference, registry: Registry, store: BlobStore, report: Progress
    ) -> None:
        self.fetched = 0
        self.changed = False
        self._manifest = manifest
        self._reference = reference
        self._registry = registry
        self._store = store
        self._report = report

    def install(self, architecture: str, cache: Path) -> Bundle:
        """Fetch what the cache lacks, and install the bundle."""
        name = str(self._reference)
        self._fetch({self._manifest.config})
        known = identity(self._document(self._manifest.config), architecture, name)
        source = Source(name, self._blob, self._store.without_damaged, may_link=True)
        parts = missing_parts(self._manifest, known, source.name, cache, self._report)
        self.changed = bool(parts)
        self._fetch({part.digest for part in parts if part.is_skeleton})
        inner = {digest for part in parts if part.is_skeleton for digest in self._inner(part)}
        wanted = inner | {part.digest for part in parts}
        copied = sum(self._manifest.sizes[digest] for digest in inner)
        absent = self._absent(wanted)
        require_room(cache, copied + absent, f"the bundle {known.id}")
        if absent:
            self._report(f"pulling the bundle {known.id} from {self._reference.host}: {-(-absent // _MIB)} MiB")
        self._fetch(wanted)
        return install(self._manifest, known, source, cache, self._report)

    def _inner(self, part: Part) -> list[str]:
        """Return the digests of the blobs that a skeleton refers to."""
        name = str(self._reference)
        try:
            digests = referenced_blobs(self._document(part.digest))
        except (ValueError, LookupError, TypeError) as error:
            raise not_a_bundle_error(name, f"{part.path} cannot be put together: {error}") from error
        if others := [digest for digest in digests if digest not in self._manifest.sizes]:
            raise not_a_bundle_error(name, f"{part.path} has the blob {others[0]}, which the manifest does not list")
        return digests

    def _absent(self, digests: Collection[str]) -> int:
        """Return the size of the blobs that are yet to be fetched, in bytes."""
        return sum(self._manifest.sizes[digest] for digest in digests if not self._store.has(digest))

    def _fetch(self, digests: Collection[str]) -> None:
        absent = self._absent(digests)
        if absent:
            blobs = [Blob(digest, self._manifest.sizes[digest]) for digest in sorted(digests)]
            wanted = [self._registry.wanted(self._reference, blob) for blob in blobs]
            fetch(wanted, self._store, self._report)
        self.fetched += absent

    def _document(self, digest: str) -> bytes:
        """Return a small blob, verified: its file may have been damaged since it was added."""
        return self._store.verified(digest).read_bytes()

    def _blob(self, digest: str) -> Span:
        path = self._store.path(digest)
        return Span(path, 0, path.stat().st_size)
