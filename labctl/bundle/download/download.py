"""`labctl bundle download`: make a bundle from upstream's releases. A later run resumes it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from labctl.bundle import checksums, unfinished
from labctl.bundle.build.build import FAILURE_DETECTOR, NODE, built_image
from labctl.bundle.download import by_engine, required_images, sources, tools, ways
from labctl.bundle.download.order import Order
from labctl.bundle.download.pins import Pins
from labctl.bundle.download.recipe import DIGEST, ImageRow, NodeRow, Recipe, archive, repository, tag
from labctl.bundle.download.sources import PulledImage
from labctl.bundle.download.ways import Way
from labctl.bundle.format import DESCRIPTION, Bundle, Image, load, write
from labctl.bundle.unfinished import (
    OTHER_SECONDS,
    PROGRESS,
    SCRATCH,
    is_made,
    move_into_place,
    open_unfinished,
    read_description,
    reopen,
)
from labctl.host import locks
from labctl.host.paths import BLOBS
from labctl.host.reachable import unreachable_reasons
from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer.mirrors import Mirrors
from labctl.transfer.probe import unreachable
from labctl.transfer.store import BlobStore

MAKER = "download"
SPACE = 3 << 30
"""The disk space in bytes for a bundle and the blobs that it is made from."""
NODE_FILES = ("base/node.tar", "base/node.packages")
RECORD = "download.json"
"""The file of a bundle that records its recipe, and the digest of everything that was downloaded."""
NAMED = ("etcd", "coredns", "pause", "traefik", "nginx")
"""Images whose tag is a version that users and configuration refer to."""
_REVISION = re.compile(r"-\d+$")
"""The revision that Kubernetes' registry adds to etcd's version."""


class Tools(Protocol):
    """The functions of module `tools`: everything in a download besides fetching."""

    def way_to_make_node(self, architecture: str) -> Way:
        """Return how to make a node's system on this machine. Raises MissingError if it cannot be made."""

    def images_of_kubeadm(self, kubeadm: Path, version: str) -> str:
        """Return the output of `kubeadm config images list`."""

    def make_node(self, node: NodeRow, architecture: str, mirrors: Mirrors, folder: Path) -> None:
        """Make the node's system and the list of its packages in a folder; in the Engine if Debian's image is there."""

    def make_detector(self, architecture: str, cache: Path, report: Progress, folder: Path) -> bool:
        """Make the archive of the failure detector's image in a folder; return False if that is not possible."""


def download(cache: Path, report: Progress, order: Order, using: Tools = tools) -> Bundle:
    """Download the bundle of a recipe for this machine below `cache`, and return it complete and verified.

    Keep what an interrupted download verified, and the intact files of a damaged bundle. Wait for another download of
    the same bundle. Raises MissingError: `tools-missing`, `disk-full`,
    `bundle-not-writable`, `recipe-mismatch`, `upstream-changed`, `architecture-unsupported`, and as `fetch`.
    """
    folder = order.folder(cache)
    lock = folder.with_name(f"{folder.name}.lock")
    blobs = locks.shared(cache / f"{BLOBS}.lock", report, timeout=OTHER_SECONDS)  # keeps others from removing blobs
    with unfinished.disk_errors(folder, _disk_full), blobs, locks.exclusive(lock, report, timeout=OTHER_SECONDS):
        if folder.exists():
            bundle = read_description(folder, DESCRIPTION, MAKER)
            problems = checksums.find_damage(bundle, cache, report)
            if bundle.files and not problems:
                return bundle
            _require_servers(order, folder)  # do not touch a damaged bundle that cannot be repaired
            reopen(bundle, problems, report)
        way = using.way_to_make_node(unfinished.architecture())
        started = open_unfinished(folder, MAKER)
        if shutil.disk_usage(started.folder).free < SPACE - sum(file.size for file in started.files):
            raise _disk_full(folder)
        bundle = _Download(cache, report, order, using, started).complete(way)
        checksums.record_hashed(bundle, cache)  # each file was hashed when it was made
        bundle.folder.rename(folder)
        return load(folder)


class _Download:
    """One download: its inputs, and the bundle so far."""

    def __init__(self, cache: Path, report: Progress, order: Order, using: Tools, bundle: Bundle) -> None:
        self._cache, self._report, self._order, self._using = cache, report, order, using
        self._recipe, self._bundle = order.recipe, bundle
        self._architecture = bundle.architecture
        self._store = BlobStore(cache / BLOBS)
        self._pins = Pins(cache, bundle.id)

    def complete(self, way: Way) -> Bundle:
        """Make every missing file, in an order that reveals problems early; return the bundle."""
        rows = self._files()
        self._images(rows)
        self._node(way)
        self._detector()
        return self._finish(rows)

    def _files(self) -> tuple[ImageRow, ...]:
        """Copy binaries and manifests unchanged; return the images of the bundle, which include all that they need."""
        taken = sources.files(self._recipe, self._architecture, self._order.mirrors, self._store, self._report)
        digests = {each.url: each.digest for each in taken}
        self._pins.require(digests)
        for each in taken:
            self._make((each.path,), each.source, partial(sources.copy, self._store, each), each.digest)
        kubeadm_output = self._using.images_of_kubeadm(self._bundle.path("bin/kubeadm"), self._recipe.kubernetes)
        rows = required_images.with_versions(
            self._recipe, required_images.kubeadm_images(kubeadm_output), follows=self._order.kubeadm_chooses_images
        )
        for manifest in self._recipe.manifests:
            text = self._bundle.path(manifest.path).read_text(encoding="utf-8")
            required_images.require_images(rows, required_images.manifest_images(text), manifest.path)
        self._pins.keep(digests)  # what does not fit the recipe is not recorded: upstream may correct it
        return rows

    def _images(self, rows: Sequence[ImageRow]) -> None:
        """Make an archive of every image for this architecture, as its registry serves it."""
        self._report(f"resolving {len(rows)} images")
        images = sources.images([row.reference for row in rows], self._architecture, self._order.mirrors, self._report)
        digests = {each.reference: each.digest for each in images}
        self._pins.require(digests)
        missing = [each for each in images if not self._has(archive(each.reference), each.source)]
        sources.fetch_layers(missing, self._store, self._report)
        self._pins.keep(digests)
        for each in missing:
            self._make((archive(each.reference),), each.source, partial(sources.pack, self._store, each))

    def _node(self, way: Way) -> None:
        """Make the node's system."""
        node = self._recipe.node
        if all(is_made(self._bundle, path) for path in NODE_FILES):
            return
        image = self._node_image() if way is ways.ENGINE else None
        self._report(way.announcement.format_map(node.model_dump()))

        def make(folder: Path) -> None:
            if image:
                named = replace(image, reference=by_engine.base_name(self._bundle.folder))
                sources.pack(self._store, named, folder)
            self._using.make_node(node, self._architecture, self._order.mirrors, folder)

        made_in = f", made in {image.source}" if image else ""
        self._make(NODE_FILES, f"Debian {node.suite}: {' '.join(NODE.packages.names)}{made_in}", make)

    def _node_image(self) -> PulledImage:
        """Fetch Debian's image: the one of an earlier run, if there was one, because its tag moves every few weeks."""
        reference = self._recipe.fill(self._recipe.node.image, "")
        first = self._pins.known().get(_tagged(reference), "")
        exact = reference if "@" in reference or not first else f"{reference}@{first}"
        [image] = sources.images([exact], self._architecture, self._order.mirrors, self._report)
        self._pins.keep({image.reference: image.digest})
        sources.fetch_layers([image], self._store, self._report)
        return image

    def _detector(self) -> None:
        """Make the failure detector if possible; without it, a lab takes a few seconds longer to detect a dead node."""
        make = partial(self._using.make_detector, self._architecture, self._cache, self._report)
        self._make((FAILURE_DETECTOR.path,), FAILURE_DETECTOR.made_from.source, make)

    def _has(self, path: str, source: str, digest: str = "") -> bool:
        """Return whether an earlier run made the file from this source, and with this digest if one is given."""
        return is_made(self._bundle, path) and any(
            (file.path, file.source) == (path, source) and digest in {"", f"{DIGEST}{file.sha256}"}
            for file in self._bundle.files
        )

    def _make(self, paths: Sequence[str], source: str, make: Callable[[Path], bool | None], digest: str = "") -> None:
        """Make files in a scratch folder, move them into place and record them, unless they exist already.

        If `make` returns False, the files cannot be made on this machine, and are left out. A `digest` is that of a
        single file.
        """
        if all(self._has(path, source, digest) for path in paths):
            return
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self._bundle.folder) as scratch:
            if make(Path(scratch)) is False:
                return
            files = tuple(
                move_into_place(Path(scratch) / Path(path).name, self._bundle, path, source) for path in paths
            )
        kept = tuple(file for file in self._bundle.files if file.path not in paths)
        self._bundle = replace(self._bundle, files=(*kept, *files))
        write(self._bundle, PROGRESS)

    def _finish(self, rows: Sequence[ImageRow]) -> Bundle:
        """Write the record of what the bundle was made from, and its bundle.yaml; return the finished bundle."""
        record = {"recipe": self._recipe.model_dump(mode="json", by_alias=True), "digests": self._pins.known()}
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        digest = f"{DIGEST}{hashlib.sha256(text.encode()).hexdigest()}"
        self._make((RECORD,), "labctl's own record", lambda folder: _write_text(folder / RECORD, text), digest)
        carried = [Image(_tagged(row.reference), archive(row.reference), row.runs_on, row.phase) for row in rows]
        if self._bundle.has(FAILURE_DETECTOR.path):
            carried.append(built_image(self._bundle, FAILURE_DETECTOR))
        bundle = replace(
            self._bundle,
            versions=versions(self._recipe, rows),
            images=tuple(carried),
            web_image=next(image.reference for image in carried if repository(image.reference) == self._recipe.web),
            files=tuple(sorted(self._bundle.files, key=lambda file: file.path)),
            recipe=self._recipe.name,
        )
        write(bundle)
        bundle.path(PROGRESS).unlink()
        return bundle


def versions(recipe: Recipe, rows: Sequence[ImageRow]) -> dict[str, str]:
    """Return the version of every part of a bundle, as users and kubeadm's configuration write it."""
    tags = {repository(row.reference).rpartition("/")[2]: tag(row.reference).removeprefix("v") for row in rows}
    texts = [*(row.url for row in recipe.files), *(row.reference for row in recipe.images)]
    filled_in = {name: each for name, each in recipe.versions.items() if any(f"{{{name}}}" in text for text in texts)}
    named = {name: _REVISION.sub("", text) for name, text in tags.items() if name in NAMED}
    return {"kubernetes": recipe.kubernetes, **filled_in, **named, "debian": recipe.node.suite}


def _tagged(reference: str) -> str:
    return reference.partition("@")[0]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _require_servers(order: Order, folder: Path) -> None:
    if reasons := unreachable_reasons(order.servers(), unreachable):
        raise MissingError(
            f"{folder} is damaged, and the missing files cannot be downloaded: {'; '.join(reasons)}",
            id="source-unreachable",
            hint="Run the same command again when the network is available; LABCTL_MIRRORS can name other servers.",
        )


def _disk_full(folder: Path) -> MissingError:
    return MissingError(
        f"not enough disk space to download a bundle into {folder.parent}: it needs {SPACE >> 20} MiB there, and only "
        f"{shutil.disk_usage(folder.parent).free >> 20} MiB are free",
        id="disk-full",
        hint="Free disk space, then run the same command again to resume.",
    )
