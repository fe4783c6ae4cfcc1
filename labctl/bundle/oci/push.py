"""Push a bundle: what the registry lacks, the layers of images once, and last what refers to them."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from labctl.bundle.documents import IMAGE_INDEXES, Document
from labctl.bundle.layout import IMAGE_NAME, Artefact, holds_bundle, with_entries
from labctl.bundle.spans import Content, Span, chunks, size_of
from labctl.host.caller import make_folder
from labctl.host.failpoints import failpoint
from labctl.host.paths import BLOBS, PRIVATE
from labctl.model.errors import LabError, MissingError, UsageError
from labctl.model.events import Progress
from labctl.transfer.reference import Reference
from labctl.transfer.registry import Manifest, Registry

_AT_ONCE = 4
_TRIES = 3
"""How often an index is written again because somebody else has written it at the same time."""
_NOT_THERE = "tag-not-found"
_TICK_SECONDS = 0.2
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed."""

    digest: str
    """Of the manifest of the bundle."""
    index: str
    """Of what the reference is now: an index of all architectures."""
    moved: int
    """Bytes of blobs that the registry did not have."""
    changed: bool


def push(artefact: Artefact, reference: Reference, registry: Registry, cache: Path, report: Progress) -> Pushed:
    """Push the bundle, and its images as tags of the same repository; bundles of other architectures stay.

    Raises UsageError `reference-without-tag`, MissingError
    `reference-taken` if the reference, or the tag of an image, has something else, and what the registry refuses.
    """
    if reference.tag is None or reference.digest:
        raise UsageError(
            f"{reference} names no tag" + (" alone" if reference.digest else ""),
            id="reference-without-tag",
            hint=f"Write {replace(reference, tag=None, digest=None)}:TAG.",
        )
    tags = {image.tag: image for image in artefact.images}
    _require_free(reference, tags, registry)
    scratch = cache / BLOBS
    make_folder(scratch, PRIVATE)
    moved = _push_blobs(artefact.blobs, reference, registry, scratch, report)
    report("pushing manifests")
    for document in artefact.documents:
        registry.put_manifest(replace(reference, tag=None, digest=document.digest), _manifest(document))
    platform = {"architecture": artefact.architecture, "os": "linux"}
    for tag, image in tags.items():
        entry = image.manifest.descriptor(platform=platform, annotations={IMAGE_NAME: image.reference})
        _put_entries(replace(reference, tag=tag), artefact.architecture, [entry], registry)
    failpoint("push")
    index, changed = _put_entries(reference, artefact.architecture, artefact.descriptors, registry)
    return Pushed(artefact.manifest.digest, index.digest, moved, changed)


def _require_free(reference: Reference, tags: Mapping[str, object], registry: Registry) -> None:
    """Raise MissingError `reference-taken` where something else than a bundle's would be replaced."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for tag, there in zip(
            tags, pool.map(lambda tag: _index(replace(reference, tag=tag), registry), tags), strict=True
        ):
            if there and there.media_type not in IMAGE_INDEXES:
                raise _taken(replace(reference, tag=tag), there)
    there = _index(reference, registry)
    if there and not (there.media_type in IMAGE_INDEXES and holds_bundle(there)):
        raise _taken(reference, there)


def _push_blobs(
    blobs: Mapping[str, Content], reference: Reference, registry: Registry, scratch: Path, report: Progress
) -> int:
    """Push the blobs that the repository lacks; return how many bytes that were."""
    report(f"asking {reference.host} for {len(blobs)} blobs")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        there = pool.map(lambda digest: registry.has_blob(reference, digest), blobs)
        lacking = {digest: blobs[digest] for digest, has in zip(blobs, there, strict=True) if not has}
    _Uploads(reference, registry, scratch, report).run(lacking)
    return sum(map(size_of, lacking.values()))


class _StoppedError(Exception):
    """An upload ends because another one has failed, or the user has stopped all."""


class _Uploads:
    """Threads that push blobs; what is reported is reported by the one that runs them."""

    def __init__(self, reference: Reference, registry: Registry, scratch: Path, report: Progress) -> None:
        self._reference = reference
        self._registry = registry
        self._scratch = scratch
        self._report = report
        self._stop = threading.Event()
        self._texts: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self, blobs: Mapping[str, Content]) -> None:
        """Push the blobs, the largest first. Raises LabError for the first failure."""
        total, done = sum(map(size_of, blobs.values())), 0
        ordered = sorted(blobs.items(), key=lambda each: size_of(each[1]), reverse=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            left = {pool.submit(self._upload, digest, content): size_of(content) for digest, content in ordered}
            try:
                while left:
                    finished, _ = wait(left, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
                    for upload in finished:
                        upload.result()
                        done += left.pop(upload)
                    so_far = f"pushed {done // _MIB} of {total // _MIB} MiB"
                    self._report(f"{so_far}; {self._latest()}" if left and not self._texts.empty() else so_far)
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _upload(self, digest: str, content: Content) -> None:
        with _as_file(content, self._scratch) as path:
            self._registry.upload(self._reference, digest, path, self._note)

    def _note(self, text: str) -> None:
        """Keep a text for the thread that reports; end this one if it should."""
        if self._stop.is_set():
            raise _StoppedError
        self._texts.put(text)

    def _latest(self) -> str:
        text = ""
        while not self._texts.empty():
            text = self._texts.get()
        return text


@contextmanager
def _as_file(content: Content, scratch: Path) -> Iterator[Path]:
    """Yield a file with the content: its own if it is one, else a copy."""
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
    """Write the entries into the index of a tag; return the index, and whether it is another one than before.

    It is read again afterwards: whoever writes the same tag at the same time may have replaced it.
    """
    for attempt in range(_TRIES + 1):
        there = _index(reference, registry)
        index = with_entries(there.content if there else None, architecture, descriptors)
        if there and there.content == index.content:
            return index, attempt > 0
        registry.put_manifest(reference, _manifest(index))
    raise MissingError(
        f"{reference} is written by somebody else at the same time",
        id="reference-contended",
        hint="Push one after the other.",
    )


def _index(reference: Reference, registry: Registry) -> Document | None:
    """Return what a tag is; None if there is none."""
    try:
        there = registry.manifest(reference)
    except LabError as error:
        if error.id != _NOT_THERE:
            raise
        return None
    return Document(there.media_type, there.content)


def _manifest(document: Document) -> Manifest:
    return Manifest(document.digest, document.media_type, document.content)


def _taken(reference: Reference, there: Document) -> MissingError:
    return MissingError(
        f"{reference} has something else than bundles and their images: {there.digest}, {there.media_type}",
        id="reference-taken",
        hint="Choose another repository or tag; labctl replaces nothing else.",
    )
