"""Sources of images: a file, the user's Docker, or a registry."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from labctl.host import locks
from labctl.host.process import check, run
from labctl.images import archive
from labctl.images.store import LATEST, LoadedImage, LoadedImages, NewImage, full_name
from labctl.model.errors import LabError, MissingError, ProviderError, UsageError
from labctl.model.events import Progress
from labctl.transfer import manifests
from labctl.transfer.fetch import fetch
from labctl.transfer.reference import Reference, parse
from labctl.transfer.registry import Registry
from labctl.transfer.store import BlobStore

FILE_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".oci")
PATHS = ("/", "./", "../", "~")
DOCKER_SECONDS = 20.0
OTHER_SECONDS = 3600.0
"""How long to wait for another run that removes blobs, or pulls a bundle."""
NOT_FOUND = ("source-not-found", "tag-not-found")
"""The errors of a registry that does not have the image."""
_ID = re.compile(r"(sha256:)?[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources that images for nodes of one architecture are read from, into the store of a lab."""

    store: LoadedImages
    architecture: str
    registry: Registry
    cache: BlobStore
    """The cache of blobs from registries."""
    report: Progress

    def read(self, word: str) -> tuple[LoadedImage, ...]:
        """Return the images that `word` names, with their blobs in the store; the store does not list them yet.

        An existing file, or what looks like a path, is an archive. For anything else, ask Docker, then the registry.
        Raises UsageError, MissingError and ProviderError.
        """
        path = Path(os.path.expanduser(word))  # noqa: PTH111 - Path.expanduser raises RuntimeError for unknown users
        if os.path.isfile(path) or word.startswith(PATHS) or word.endswith(FILE_NAMES):  # noqa: PTH113 - as above: OSError
            return self._archive(path)
        reference = full_name(word)
        without = _without_docker(word)
        return self._registry(word, reference, without) if without else self._docker(word)

    def _archive(self, path: Path, said: str = "") -> tuple[LoadedImage, ...]:
        _require_file(path)
        self.report(f"reading {said or path}")
        with archive.open_archive(path, self.store.scratch("unpacked.tar")) as opened:
            images = opened.images(self.architecture)
            for archived in images:
                for blob in archived.image.blobs:
                    if not self.store.blobs.has(blob.digest):
                        partial = self.store.blobs.partial(blob.digest)
                        opened.extract(archived, blob, partial)
                        self.store.blobs.adopt(partial, blob.digest)
        return tuple(_with_name(archived.image, name) for archived in images for name in archived.names)

    def _docker(self, word: str) -> tuple[LoadedImage, ...]:
        saved = self.store.scratch("saved.tar")
        self.report(f"exporting {word} from Docker")
        name = word if parse(word).wanted else f"{word}:{LATEST}"  # for a name without a tag, Docker saves all tags
        check(["docker", "image", "save", "--output", str(saved), name])
        return self._archive(saved, f"{word} from Docker")

    def _registry(self, word: str, name: str, without_docker: str) -> tuple[LoadedImage, ...]:
        reference = parse(name)
        self.report(f"pulling {name} from {reference.host}")
        lock = self.cache.folder.with_suffix(".lock")
        with locks.shared(lock, self.report, timeout=OTHER_SECONDS):  # keeps others from removing blobs
            return (_with_name(self._fetch(word, reference, without_docker), name),)

    def _fetch(self, word: str, reference: Reference, without_docker: str) -> NewImage:
        """Fetch an image through the cache into the store. Raises LabError."""
        try:
            image = self.registry.image(reference, self.architecture)
            manifest = self.registry.manifest(replace(reference, digest=image.digest))
            fetch([self.registry.wanted(reference, image.config)], self.cache, self.report)
            config = self.cache.verified(image.config.digest).read_bytes()
            manifests.require_architecture(reference, config, self.architecture)
            layers = [self.registry.wanted(reference, blob) for blob in dict.fromkeys(image.layers)]
            fetched = fetch(layers, self.cache, self.report)
        except LabError as error:
            if error.id in NOT_FOUND:
                raise _not_found(word, without_docker, error) from error
            error.details += (f"{without_docker}, so labctl asked {reference.host} for {reference}",)
            raise
        for blob in (image.config, *fetched):
            if not self.store.blobs.has(blob.digest):
                self.cache.verified(blob.digest)
                self.cache.place(blob.digest, self.store.blobs.path(blob.digest))
        return NewImage(manifest.content, manifest.media_type, self.architecture)


def _without_docker(word: str) -> str:
    """Return why Docker cannot provide the image; empty if it can. Raises UsageError `image-unnamed` for an id."""
    try:
        result = run(["docker", "image", "inspect", "--format", "{{.Id}}", word], timeout=DOCKER_SECONDS)
    except ProviderError as error:
        return f"Docker does not answer: {error.message}"
    if result.code == 0:
        _refuse_id(word, result.out.strip())
        return ""
    output = " ".join(result.last_lines)
    is_unknown = "no such image" in output.lower()
    return f"Docker has no image {word}" if is_unknown else f"Docker does not answer: {output}"


def _refuse_id(word: str, identity: str) -> None:
    """Refuse the id of an image in Docker: an archive that Docker saves by id has no names."""
    if _ID.fullmatch(word) and identity.removeprefix("sha256:").startswith(word.removeprefix("sha256:")):
        raise UsageError(
            f"{word} is an image ID, but nodes identify images by name",
            id="image-unnamed",
            hint=f"Give the image's name; `docker tag {word} NAME:TAG` gives it one.",
        )


def _not_found(word: str, without_docker: str, error: LabError) -> MissingError:
    """Return the error for an image that neither Docker nor the registry has."""
    return MissingError(
        f"there is no image {word}: {without_docker}, and {error.message}",
        id="image-not-found",
        hint="Check the name and the tag. `docker build -t NAME:TAG .` makes an image; then run the same command again.",
        details=error.details,
    )


def _require_file(path: Path) -> None:
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises OSError for a name that is too long
        raise MissingError(f"there is no file {path}", id="archive-not-found", hint="Check the path of the archive.")
    if not path.is_file():
        raise UsageError(f"{path} is not a regular file", id="archive-unreadable", hint="Give one archive file.")


def _with_name(image: NewImage, name: str) -> LoadedImage:
    return LoadedImage(image.manifest, image.media_type, image.architecture, full_name(name))
