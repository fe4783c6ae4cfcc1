"""Pushing a bundle: the blobs that the registry lacks, then the manifests that refer to them, and the index last."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from labctl.bundle.layout import Artefact, CarriedImage, holds_bundle, holds_image, with_entries
from labctl.bundle.spans import Content, Span, chunks, size_of
from labctl.bundle.unfinished import OTHER_SECONDS
from labctl.host import locks
from labctl.host.caller import make_folder
from labctl.host.failpoints import failpoint
from labctl.host.paths import BLOBS, PRIVATE
from labctl.model.errors import LabError, MissingError, UsageError
from labctl.model.events import Progress
from labctl.transfer.documents import IMAGE_INDEXES, IMAGE_NAME, Document
from labctl.transfer.parallel import StoppedError, run_in_parallel
from labctl.transfer.reference import Reference
from labctl.transfer.registry import PUSH, Registry

_TRIES = 3
"""How often an index is written again after another push replaced it."""
_NOT_THERE = "tag-not-found"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class PushResult:
    """What was pushed."""

    digest: str
    """The digest of the bundle's manifest."""
    index: str
    """The digest of what the reference names now: an index of all architectures."""
    moved: int
    """Bytes of blobs that the registry lacked."""
    changed: bool


def push(artefact: Artefact, reference: Reference, registry: Registry, cache: Path, report: Progress) -> PushResult:
    """Push the bundle, and its images as tags of the same repository; keep bundles of other architectures.

    Raises UsageError `reference-without-tag`, MissingError `reference-taken` if the reference or an image tag has
    something else, and the errors of the registry.
    """
    if reference.tag is None or reference.digest:
        raise UsageError(
            f"{reference} names no tag" + (" alone" if reference.digest else ""),
            id="reference-without-tag",
            hint=f"Write {replace(reference, tag=None, digest=None)}:TAG.",
        )
    tags = {image.tag: image for image in artefact.images}
    _require_free(reference, tags, artefact.architecture, registry)
    scratch = cache / BLOBS
    make_folder(scratch, PRIVATE)
    with locks.shared(cache / f"{BLOBS}.lock", report, timeout=OTHER_SECONDS):  # keeps others from removing the folder
        moved = _push_blobs(artefact.blobs, reference, registry, scratch, report)
    report("pushing manifests")
    for document in artefact.documents:
        registry.put_manifest(replace(reference, tag=None, digest=document.digest), document)
    platform = {"architecture": artefact.architecture, "os": "linux"}
    for tag, image in tags.items():
        entry = image.manifest.descriptor(platform=platform, annotations={IMAGE_NAME: image.reference})
        _put_entries(replace(reference, tag=tag), artefact.architecture, [entry], registry)
    failpoint("push")
    index, changed = _put_entries(reference, artefact.architecture, artefact.descriptors, registry)
    return PushResult(artefact.manifest.digest, index.digest, moved, changed)


def _require_free(
    reference: Reference, tags: Mapping[str, CarriedImage], architecture: str, registry: Registry
) -> None:
    """Raise MissingError `reference-taken` if the push would replace anything but bundles and their images."""
    indexes = run_in_parallel(lambda tag: _index(replace(reference, tag=tag), registry), tags, stop=registry.stop)
    for (tag, image), there in zip(tags.items(), indexes, strict=True):
        if there and not holds_image(there, image.reference):
            raise _taken_error(replace(reference, tag=tag), there)
    there = _index(reference, registry)
    if there is None:
        return
    read = partial(registry.document, reference)
    if there.media_type not in IMAGE_INDEXES or not holds_bundle(there, architecture, read):
        raise _taken_error(reference, there)


def _push_blobs(
    blobs: Mapping[str, Content], reference: Reference, registry: Registry, scratch: Path, report: Progress
) -> int:
    """Push the blobs that the repository lacks; return their size in bytes."""
    report(f"checking which of {len(blobs)} blobs {reference.host} has")
    existing = run_in_parallel(lambda digest: registry.has_blob(reference, digest), blobs, stop=registry.stop)
    lacking = {digest: blobs[digest] for digest, has in zip(blobs, existing, strict=True) if not has}
    # The folder is removed with the files of threads that do not end in time.
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".pushing-", ignore_cleanup_errors=True) as own:
        _Uploads(reference, registry, Path(own), report).run(lacking)
    return sum(map(size_of, lacking.values()))


class _Uploads:
    """Threads that push blobs. Only the thread that runs them reports progress."""

    def __init__(self, reference: Reference, registry: Registry, scratch: Path, report: Progress) -> None:
        self._reference = reference
        self._registry = registry
        self._scratch = scratch
        self._report = report
        self._texts: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._pushed = self._total = 0

    def run(self, blobs: Mapping[str, Content]) -> None:
        """Push the blobs, the largest first. Raises LabError for the first failure."""
        self._total = sum(map(size_of, blobs.values()))
        ordered = sorted(blobs.items(), key=lambda each: size_of(each[1]), reverse=True)
        run_in_parallel(self._upload, ordered, stop=self._registry.stop, tick=self._tick)

    def _upload(self, blob: tuple[str, Content]) -> None:
        digest, content = blob
        with _as_file(content, self._scratch) as path:
            self._registry.upload(self._reference, digest, path, self._note)
        self._done.put(size_of(content))

    def _note(self, text: str) -> None:
        """Queue a text for the reporting thread. Raises StoppedError if the push was stopped."""
        if self._registry.is_stopped:
            raise StoppedError
        self._texts.put(text)

    def _tick(self) -> None:
        while not self._done.empty():
            self._pushed += self._done.get()
        so_far = f"pushed {self._pushed // _MIB} of {self._total // _MIB} MiB"
        text = self._latest()
        self._report(f"{so_far}; {text}" if text and self._pushed < self._total else so_far)

    def _latest(self) -> str:
        text = ""
        while not self._texts.empty():
            text = self._texts.get()
        return text


@contextmanager
def _as_file(content: Content, scratch: Path) -> Iterator[Path]:
    """Yield a file with the content: the original if the content is a whole file, else a temporary copy."""
    if isinstance(content, Span) and content.offset == 0 and content.path.stat().st_size == content.size:
        yield content.path
        return
    with tempfile.NamedTemporaryFile(dir=scratch, prefix=".pushing-") as file:
        for chunk in chunks(content):
            file.write(chunk)
        file.flush()
        yield Path(file.name)


def _put_entries(
    reference: Reference, architecture: str, descriptors: Sequence[Mapping[str, object]], registry: Registry
) -> tuple[Document, bool]:
    """Write the entries into the index of a tag; return the index, and whether it changed.

    Read the index again after each write, because another push to the same tag may have replaced it.
    """
    for writes in range(_TRIES + 2):
        existing = _index(reference, registry)
        index = with_entries(existing.content if existing else None, architecture, descriptors)
        if existing and existing.content == index.content:
            return index, writes > 0
        if writes <= _TRIES:
            registry.put_manifest(reference, index)
    raise MissingError(
        f"another push is writing {reference} at the same time",
        id="reference-contended",
        hint="Push one after the other.",
    )


def _index(reference: Reference, registry: Registry) -> Document | None:
    """Return the manifest or index of a tag; None if the repository lacks the tag."""
    try:
        return registry.manifest(reference, PUSH)
    except LabError as error:
        if error.id != _NOT_THERE:
            raise
        return None


def _taken_error(reference: Reference, there: Document) -> MissingError:
    return MissingError(
        f"{reference} holds something other than bundles and their images: {there.digest}, {there.media_type}",
        id="reference-taken",
        hint="Choose another repository or tag; labctl replaces nothing else.",
    )
