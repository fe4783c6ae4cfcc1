"""Where an image that is loaded comes from: a file, the user's Docker, or a registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labctl.host.process import check, run
from labctl.images import archive
from labctl.images.store import LoadedImage, LoadedImages, NewImage, full_name
from labctl.model.errors import LabError, MissingError, ProviderError, UsageError
from labctl.model.events import Progress
from labctl.transfer.fetch import fetch
from labctl.transfer.reference import Reference, parse
from labctl.transfer.registry import Registry
from labctl.transfer.store import Blob, BlobStore

FILE_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".oci")
PATHS = ("/", "./", "../", "~")
DOCKER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Sources:
    """What images are read from, for nodes of one architecture, into the store of a lab."""

    store: LoadedImages
    architecture: str
    registry: Registry
    cache: BlobStore
    """What was fetched from registries."""
    report: Progress

    def read(self, word: str) -> tuple[LoadedImage, ...]:
        """Return the images that a user means by this word, their blobs in the store; the store does not list them yet.

        A file that exists is taken as an archive, and so is what looks like a path; then Docker is asked, then the
        registry. Raises UsageError, MissingError and ProviderError.
        """
        path = Path(word).expanduser() if word.startswith("~") else Path(word)
        if path.is_file() or word.startswith(PATHS) or word.endswith(FILE_NAMES):
            return self._archive(path)
        reference = full_name(word)
        without = _without_docker(word)
        return self._registry(reference, without) if without else self._docker(word)

    def _archive(self, path: Path, said: str = "") -> tuple[LoadedImage, ...]:
        _require_file(path)
        self.report(f"reading {said or path}")
        with archive.opened(path, self.store.scratch("unpacked.tar")) as opened:
            images = opened.images(self.architecture)
            for archived in images:
                for blob in archived.image.blobs:
                    if not self.store.blobs.has(blob.digest):
                        partial = self.store.blobs.partial(blob.digest)
                        opened.extract(archived, blob, partial)
                        self.store.blobs.adopt(partial, blob.digest)
        return tuple(_named(archived.image, name) for archived in images for name in archived.names)

    def _docker(self, word: str) -> tuple[LoadedImage, ...]:
        saved = self.store.scratch("saved.tar")
        self.report(f"asking Docker for {word}")
        check(["docker", "image", "save", "--output", str(saved), word])
        return self._archive(saved, f"{word}, as Docker has saved it")

    def _registry(self, name: str, without_docker: str) -> tuple[LoadedImage, ...]:
        reference = parse(name)
        self.report(f"asking {reference.host} for {name}")
        try:
            image = self.registry.image(reference, self.architecture)
            manifest = self.registry.manifest(replace(reference, digest=image.digest))
            self._require_architecture(reference, image.config)
            layers = [self.registry.wanted(reference, blob) for blob in dict.fromkeys(image.layers)]
            fetched = fetch(layers, self.cache, self.report)
        except LabError as error:
            error.details += (f"{without_docker}; so {reference.host} was asked for {reference}",)
            raise
        for blob in (image.config, *fetched):
            if not self.store.blobs.has(blob.digest):
                self.cache.place(blob.digest, self.store.blobs.path(blob.digest))
        return (_named(NewImage(manifest.content, manifest.media_type, self.architecture), name),)

    def _require_architecture(self, reference: Reference, config: Blob) -> None:
        """Return if the image is for the lab's nodes: one that is in no index says so in its configuration alone."""
        fetch([self.registry.wanted(reference, config)], self.cache, self.report)
        described = json.loads(self.cache.path(config.digest).read_bytes())
        if (there := described.get("architecture")) != self.architecture:
            raise archive.other_architecture(str(reference), self.architecture, [f"{described.get('os')}/{there}"])


def _without_docker(word: str) -> str:
    """Return why Docker cannot give the image; empty where it has it."""
    try:
        asked = run(["docker", "image", "inspect", "--format", "{{.Id}}", word], timeout=DOCKER_SECONDS)
    except ProviderError as error:
        return f"Docker cannot be asked: {error.message}"
    if asked.code == 0:
        return ""
    said = " ".join(asked.last_lines)
    is_unknown = "no such image" in said.lower()
    return f"Docker has no image {word}" if is_unknown else f"Docker cannot be asked: {said}"


def _require_file(path: Path) -> None:
    if not path.exists():
        raise MissingError(f"there is no file {path}", id="archive-not-found", hint="Check the path of the archive.")
    if not path.is_file():
        raise UsageError(
            f"{path} is a folder, or no regular file", id="archive-unreadable", hint="Give one archive file."
        )


def _named(image: NewImage, name: str) -> LoadedImage:
    return LoadedImage(image.manifest, image.media_type, image.architecture, full_name(name))


def references(images: Sequence[LoadedImage]) -> str:
    """Return the names of images, for a sentence."""
    return ", ".join(image.reference for image in images)
