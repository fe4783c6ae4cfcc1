"""Downloads from upstream's servers and registries, or from their mirrors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from labctl.bundle.download.recipe import DIGEST, Binary, Recipe, archive
from labctl.bundle.images import Named, write_pulled
from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer import manifests
from labctl.transfer import reference as references
from labctl.transfer.documents import Document
from labctl.transfer.fetch import Wanted, fetch
from labctl.transfer.mirrors import Mirrors
from labctl.transfer.registry import Registry
from labctl.transfer.store import Blob, BlobStore

_SHOWN = 60
"""How many characters of an invalid checksum file an error shows."""


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file of upstream's that goes into the bundle unchanged."""

    path: str
    url: str
    digest: str
    source: str
    mode: int


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image for one architecture: its reference without a digest, and what its registry serves."""

    reference: str
    digest: str
    """The digest of what the reference names: the index, if there is one."""
    architecture: str
    manifest: Document
    config: Blob
    layers: tuple[Blob, ...]
    wanted: tuple[Wanted, ...]

    @property
    def source(self) -> str:
        """The image's source, as people read it in bundle.yaml."""
        return f"{self.reference}@{self.digest}"


def mirror_url(url: str, mirrors: Mirrors) -> str:
    """Return the mirror's URL for one of upstream's."""
    parts = urlsplit(url)
    return mirrors.base(parts.netloc) + parts.path


def files(
    recipe: Recipe, machine: str, mirrors: Mirrors, store: BlobStore, report: Progress
) -> tuple[UpstreamFile, ...]:
    """Fetch the binaries and manifests of a recipe into the store. Raises as `fetch`, and `checksum-unreadable`."""
    rows = {recipe.fill(row.url, machine): row for row in recipe.files}
    open_ones = [url for url, row in rows.items() if isinstance(row, Binary) and not row.checksum(machine)]
    pinned = {url: DIGEST + checksum for url, row in rows.items() if (checksum := row.checksum(machine))}
    published = _published_digests(open_ones, mirrors, store, report)
    expected = {**pinned, **published}
    wanted = [Wanted(row.path, mirror_url(url, mirrors), expected.get(url)) for url, row in rows.items()]
    blobs = fetch(wanted, store, report)
    by_whose = {
        **dict.fromkeys(pinned, ", by the recipe's checksum"),
        **dict.fromkeys(published, ", by the checksum beside it"),
    }
    return tuple(
        UpstreamFile(row.path, url, blob.digest, url + by_whose.get(url, ""), row.mode)
        for (url, row), blob in zip(rows.items(), blobs, strict=True)
    )


def copy(store: BlobStore, taken: UpstreamFile, folder: Path) -> None:
    """Write an upstream file to a folder, named by the last component of its path. Raises as `BlobStore.verified`."""
    target = folder / Path(taken.path).name
    shutil.copyfile(store.verified(taken.digest), target)
    target.chmod(taken.mode)


def images(rows: Sequence[str], machine: str, mirrors: Mirrors, report: Progress) -> tuple[PulledImage, ...]:
    """Return the images with these references, as their registries serve them. Raises as `Registry.image`."""
    registry = Registry(mirrors, report)
    return tuple(_pull_image(registry, text, machine) for text in rows)


def fetch_layers(pulled: Sequence[PulledImage], store: BlobStore, report: Progress) -> None:
    """Fetch the blobs of the images into the store, each once; first the configs, which state the architecture.

    Raises MissingError `architecture-missing`, and as `fetch` and `BlobStore.verified`.
    """
    fetch([wanted for each in pulled for wanted in each.wanted if wanted.digest == each.config.digest], store, report)
    for each in pulled:
        config = store.verified(each.config.digest).read_bytes()
        manifests.require_architecture(references.parse(each.reference), config, each.architecture)
    by_digest = {wanted.digest: wanted for each in pulled for wanted in each.wanted}
    fetch(list(by_digest.values()), store, report)


def pack(store: BlobStore, pulled: PulledImage, folder: Path) -> None:
    """Write an image's archive to a folder, named by the last component of its path. Raises as `BlobStore.verified`."""
    write_pulled(
        folder / Path(archive(pulled.reference)).name,
        Named(pulled.reference, pulled.architecture, pulled.manifest.media_type),
        manifest=pulled.manifest.content,
        config=store.verified(pulled.config.digest).read_bytes(),
        layers={blob.digest.removeprefix(DIGEST): store.verified(blob.digest) for blob in pulled.layers},
    )


def _published_digests(urls: Sequence[str], mirrors: Mirrors, store: BlobStore, report: Progress) -> dict[str, str]:
    """Return the digests that upstream publishes beside these URLs, by URL."""
    wanted = [Wanted(f"{url.rpartition('/')[2]}.sha256", f"{mirror_url(url, mirrors)}.sha256") for url in urls]
    blobs = fetch(wanted, store, report)
    return {url: _checksum(url, store.path(blob.digest)) for url, blob in zip(urls, blobs, strict=True)}


def _checksum(url: str, path: Path) -> str:
    text = path.read_bytes().decode(errors="replace")
    if not re.fullmatch(r"[0-9a-f]{64}(\s+\S+)?\s*", text):
        raise MissingError(
            f"{url}.sha256 does not contain a checksum: it begins with {text[:_SHOWN]!r}",
            id="checksum-unreadable",
            hint="Something other than upstream answers: a login page of this network, or a wrong mirror.",
        )
    return DIGEST + text.split()[0]


def _pull_image(registry: Registry, text: str, machine: str) -> PulledImage:
    reference = references.parse(text)
    named = registry.manifest(reference)
    image = registry.image(replace(reference, digest=named.digest), machine)
    manifest = registry.manifest(replace(reference, digest=image.digest))
    tagged = str(replace(reference, digest=None))
    parts = dict.fromkeys([image.config, *image.layers])
    wanted = tuple(
        replace(registry.wanted(reference, blob), name=f"{tagged}, part {number} of {len(parts)}")
        for number, blob in enumerate(parts, 1)
    )
    return PulledImage(tagged, named.digest, machine, manifest, image.config, image.layers, wanted)
