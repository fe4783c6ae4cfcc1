"""Load a lab's images into every node, and remove from the nodes what was removed from the lab."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import IO

from labctl.context import Context
from labctl.host.known_failures import recognise
from labctl.host.process import Finished, feed
from labctl.images.store import LoadedImage, LoadedImages, references
from labctl.model.errors import LabError, ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Node

CTR = ("ctr", "--namespace=k8s.io", "images")
LIST = (*CTR, "list")
REMOVE = (*CTR, "remove", "--sync")
IMPORT = ("sudo", *CTR, "import", "--no-unpack", "-")
PROGRESS_SECONDS = 1.0
"""How often the progress of the transfer to the nodes is reported."""
SLOWEST = 1 << 20
"""The lowest rate at which a node imports an image, in bytes per second."""
Digests = Mapping[str, str]
"""The digest of each image that a node has, by its reference."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The nodes into which images were newly loaded, and the errors of those that lack one."""

    nodes: tuple[str, ...]
    failures: Mapping[str, LabError]


@dataclass
class _Transfer:
    """The progress of the transfers to all nodes, and how to stop them."""

    total: int = 0
    sent: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    kills: list[Callable[[], None]] = field(default_factory=list)
    """Functions that kill the running imports."""

    def count(self, *, total: int = 0, sent: int = 0) -> None:
        with self.lock:
            self.total += total
            self.sent += sent
        if self.stopped.is_set():
            raise InterruptedError("the transfer was stopped")

    def stop(self) -> None:
        """Stop at once: an import that starts meanwhile stops at its first write."""
        self.stopped.set()
        for kill in self.kills:
            kill()


class _CountingFile:
    """A file that counts what is written to it."""

    def __init__(self, file: IO[bytes], transfer: _Transfer) -> None:
        self._file = file
        self._transfer = transfer

    def write(self, content: bytes, /) -> int:
        self._transfer.count(sent=len(content))
        return self._file.write(content)


def load_into_nodes(context: Context, images: Sequence[LoadedImage], report: Progress) -> LoadResult:
    """Import the images into every node that lacks them, all nodes at once."""
    if not images:
        return LoadResult((), {})
    transfer, nodes = _Transfer(), context.lab.nodes
    running = context.provider.running()

    def given(node: Node) -> bool:
        if node.name not in running:
            raise ProviderError("not running", id="image-not-given")
        return _load_into_node(context, node, images, transfer)

    with ThreadPoolExecutor(len(nodes)) as pool:
        futures = {node.name: pool.submit(given, node) for node in nodes}
        try:
            _report_while(list(futures.values()), transfer, report)
        except BaseException:
            transfer.stop()
            raise
    failures = {name: error for name, future in futures.items() if isinstance(error := future.exception(), LabError)}
    changed = tuple(name for name, future in futures.items() if name not in failures and future.result())
    return LoadResult(changed, failures)


def require_on_nodes(context: Context, images: Sequence[LoadedImage], given: LoadResult) -> None:
    """Check that every node has the images. Raises ProviderError `image-not-given`, which names the nodes that have them."""
    if not given.failures:
        return
    having = [node.name for node in context.lab.nodes if node.name not in given.failures]
    lacking = "; ".join(f"{name}: {error.message}" for name, error in given.failures.items())
    hints = dict.fromkeys(error.hint for error in given.failures.values() if error.hint)
    raise ProviderError(
        f"{references(images)}: not on {lacking}; on {', '.join(having) or 'no node'}",
        id="image-not-given",
        hint=" ".join((*hints, "The lab keeps the image. Run `labctl up` to load it into every node that lacks it.")),
        details=tuple(f"{name}: {line}" for name, error in given.failures.items() for line in error.details),
    )


def images_on_node(context: Context, node: Node) -> Digests:
    """Return the images that a node has. Raises ProviderError if they cannot be listed."""
    answer = context.provider.run(node, LIST, context.lab.limits.node_command)
    if answer.code != 0:
        raise _transfer_error("cannot list its images", answer, node)
    rows = (line.split() for line in answer.out.splitlines()[1:])
    return {row[0]: row[2] for row in rows if len(row) > 2}  # noqa: PLR2004 - reference, type, digest


def on_every_node(context: Context, act: Callable[[Node], Digests]) -> dict[str, Digests]:
    """Return what `act` returns for each node that runs and answers, by the node's name."""
    running = context.provider.running()
    nodes = [node for node in context.lab.nodes if node.name in running]

    def acted(node: Node) -> Digests | None:
        try:
            return act(node)
        except ProviderError:
            return None  # it boots, or hangs, which `labctl status` reports

    with ThreadPoolExecutor(max(len(nodes), 1)) as pool:
        answers = dict(zip((node.name for node in nodes), pool.map(acted, nodes), strict=True))
    return {name: answer for name, answer in answers.items() if answer is not None}


def remove_from_nodes(context: Context, images: Sequence[LoadedImage]) -> tuple[str, ...]:
    """Remove the images from every running node, then from the lab; return the names of the nodes that do not run.

    `up` removes them from those nodes later: it calls this with the lab's pending removals. Raises ProviderError
    `image-not-removed`; the lab then keeps the images, and the removal can be repeated.
    """
    if not images:
        return ()
    running = context.provider.running()
    gone = {image.reference for image in images}
    kept = {image.config.digest for image in context.loaded_images.images() if image.reference not in gone}
    for node in context.lab.nodes:
        if node.name in running:
            _remove_from_node(context, node, images, kept)
    down = tuple(node.name for node in context.lab.nodes if node.name not in running)
    context.loaded_images.remove(images, is_pending=bool(down))
    return down


def _remove_from_node(context: Context, node: Node, images: Sequence[LoadedImage], kept: Collection[str]) -> None:
    """Remove from one node those images that it has."""
    try:
        names = _names_on_node(images, images_on_node(context, node), kept)
        answer = context.provider.run(node, (*REMOVE, *names), context.lab.limits.node_log) if names else None
    except ProviderError as error:
        raise _removal_error(images, node, error.message, error.details) from error
    if answer and answer.code != 0:
        raise _removal_error(images, node, "cannot remove them", answer.last_lines)


def _removal_error(images: Sequence[LoadedImage], node: Node, why: str, details: tuple[str, ...]) -> ProviderError:
    return ProviderError(
        f"{references(images)}: still on node {node.name}: {why}",
        id="image-not-removed",
        hint="Run the same command again.",
        details=details,
    )


def _names_on_node(images: Sequence[LoadedImage], digests: Digests, kept: Collection[str]) -> list[str]:
    """Return the images' names on a node: their references and, unless another image needs them, their ids.

    containerd's CRI plugin also names each image by its id, the digest of its configuration, and creates containers
    from that name.
    """
    references = {image.reference for image in images}
    others = {digest for name, digest in digests.items() if name not in references and not name.startswith("sha256:")}
    ids = {
        image.config.digest
        for image in images
        if image.digest not in others and image.config.digest not in kept
        if digests.get(image.config.digest) == image.digest
    }
    return sorted(references.intersection(digests) | ids)


def _load_into_node(context: Context, node: Node, images: Sequence[LoadedImage], transfer: _Transfer) -> bool:
    """Import the images that one node lacks; return whether there were any."""
    existing = images_on_node(context, node)
    lacking = [image for image in images if existing.get(image.reference) != image.digest]
    transfer.count(total=sum(image.size for image in lacking))
    for image in lacking:
        answer = feed(
            context.provider.command(node, IMPORT),
            partial(_write, context.loaded_images, image, transfer),
            timeout=context.lab.limits.ready + image.size / SLOWEST,
            started=transfer.kills.append,
        )
        if answer.code != 0:
            raise _transfer_error(f"cannot import {image.reference}", answer, node)
    return bool(lacking)


def _write(store: LoadedImages, image: LoadedImage, transfer: _Transfer, file: IO[bytes]) -> None:
    store.write_archive(image, _CountingFile(file, transfer))


def _transfer_error(what: str, answer: Finished, node: Node) -> ProviderError:
    plain = ProviderError(what, id="image-not-given", details=answer.last_lines)
    known = recognise(plain, "\n".join(answer.last_lines), node=node.name)
    if known is plain:
        return plain
    return ProviderError(f"{what}: {known.message}", id=known.id, hint=known.hint, details=known.details)


def _report_while(futures: Sequence[Future[bool]], transfer: _Transfer, report: Progress) -> None:
    """Report the progress until every node's transfer has ended."""
    while wait(futures, timeout=PROGRESS_SECONDS).not_done:
        if transfer.total:
            report(f"{transfer.sent >> 20} of {transfer.total >> 20} MiB sent to the nodes")
    for future in futures:
        if (error := future.exception()) and not isinstance(error, LabError):
            raise error
