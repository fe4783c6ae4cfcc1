"""The images that were loaded into a lab: an OCI image layout in the lab's folder, whose index lists them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from labctl.host.files import write
from labctl.host.paths import remove_tree
from labctl.model.errors import MissingError, UsageError
from labctl.transfer.documents import (
    IMAGE_INDEX,
    IMAGE_NAME,
    INDEX_FILE,
    LAYOUT,
    LAYOUT_FILE,
    REF_NAME,
    blob_path,
    descriptor,
)
from labctl.transfer.reference import Reference, parse
from labctl.transfer.store import Blob, BlobStore

LATEST = "latest"
LISTED, REMOVED = INDEX_FILE, "removed.json"
"""The images of the lab, and removed ones that nodes which were down may still have. Both files are OCI indexes."""


class Writable(Protocol):
    """A target of an archive: a file, or a pipe."""

    def write(self, content: bytes, /) -> int:
        """Write the content."""


@dataclass(frozen=True)
class NewImage:
    """An image without its name: its manifest and its architecture."""

    manifest: bytes
    media_type: str
    architecture: str

    @cached_property
    def digest(self) -> str:
        """The manifest's digest, by which containerd identifies the image."""
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"

    @cached_property
    def config(self) -> Blob:
        """The image's configuration, whose digest is the image's id."""
        return _blob(json.loads(self.manifest)["config"])

    @cached_property
    def blobs(self) -> tuple[Blob, ...]:
        """The configuration and the layers, each once."""
        layers = [_blob(each) for each in json.loads(self.manifest)["layers"]]
        return tuple(dict.fromkeys((self.config, *layers)))

    @property
    def size(self) -> int:
        """The size of all blobs, in bytes."""
        return sum(blob.size for blob in self.blobs)


@dataclass(frozen=True)
class LoadedImage(NewImage):
    """An image that was loaded into a lab."""

    reference: str
    """The full reference, as containerd has it: registry, repository and tag."""


class LoadedImages:
    """The store of the images that were loaded into a lab, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = BlobStore(folder / "blobs")

    def images(self) -> tuple[LoadedImage, ...]:
        """Return the images, sorted by reference. Raises MissingError `images-damaged`."""
        return self._read(LISTED)

    def removed_images(self) -> tuple[LoadedImage, ...]:
        """Return the images that were removed while nodes were down; only their manifests are kept. Raises as `images`."""
        return self._read(REMOVED)

    def _read(self, file: str) -> tuple[LoadedImage, ...]:
        index = self.folder / file
        if not index.exists():
            return ()
        try:
            return tuple(self._image(each) for each in json.loads(index.read_bytes())["manifests"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise MissingError(
                f"the loaded images in {self.folder} cannot be read: {error}",
                id="images-damaged",
                hint=f"Remove the folder with `rm -r {self.folder}`, then load the images again.",
            ) from error

    def find(self, name: str) -> LoadedImage | None:
        """Return the image that a user means by this name; None if there is no such image, or if the name is invalid."""
        try:
            wanted = full_name(name)
        except UsageError:
            return None
        return next((image for image in self.images() if image.reference == wanted), None)

    def scratch(self, name: str) -> Path:
        """Return the path of a temporary file; `tidy` removes it."""
        path = self.folder / "scratch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, images: Sequence[LoadedImage]) -> bool:
        """List these images, whose blobs are stored, in place of others of the same name; return whether any changed."""
        before = {image.reference: image for image in self.images()}
        after = {**before, **{image.reference: image for image in images}}
        if after == before:
            return False
        for image in images:
            if not self.blobs.has(image.digest):
                partial = self.blobs.partial(image.digest)
                partial.write_bytes(image.manifest)
                self.blobs.adopt(partial, image.digest)
        self._list(LISTED, after.values())
        self._list(REMOVED, _excluding(self.removed_images(), images))
        return True

    def remove(self, images: Collection[LoadedImage], *, is_pending: bool = False) -> None:
        """Remove these images from the list; if `is_pending`, record them, as nodes that are down still have them."""
        pending = images if is_pending else ()
        self._list(REMOVED, [*_excluding(self.removed_images(), images), *pending])
        self._list(LISTED, _excluding(self.images(), images))
        self.tidy()

    def tidy(self) -> None:
        """Remove the blobs that no image needs, and the leftovers of interrupted runs."""
        for folder in (self.folder / "scratch", self.blobs.folder / "partial"):
            remove_tree(folder)
        needed = {
            digest for image in self.images() for digest in (image.digest, *(blob.digest for blob in image.blobs))
        }
        needed |= {image.digest for image in self.removed_images()}
        for path in self.blobs.folder.glob("sha256/*"):
            if f"sha256:{path.name}" not in needed:
                path.unlink()

    def write_archive(self, image: LoadedImage, file: Writable) -> None:
        """Write the image as an archive that containerd imports."""
        with tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload] # it only writes to a stream
            _add(tar, LAYOUT_FILE, LAYOUT)
            _add(tar, LISTED, _index([image]))
            for digest in (image.digest, *(blob.digest for blob in image.blobs)):
                path = self.blobs.path(digest)
                member = tarfile.TarInfo(blob_path(digest))
                member.size = path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(member, content)

    def _image(self, described: Mapping[str, Any]) -> LoadedImage:
        manifest = self.blobs.path(described["digest"]).read_bytes()
        platform, name = described["platform"], described["annotations"][IMAGE_NAME]
        return LoadedImage(manifest, described["mediaType"], platform["architecture"], name)

    def _list(self, file: str, images: Iterable[LoadedImage]) -> None:
        ordered = sorted(images, key=lambda image: image.reference)
        if ordered or file == LISTED:
            write(self.folder / LAYOUT_FILE, LAYOUT)
            write(self.folder / file, _index(ordered))
        else:
            (self.folder / file).unlink(missing_ok=True)


def _excluding(images: Iterable[LoadedImage], gone: Iterable[LoadedImage]) -> list[LoadedImage]:
    """Return the images whose names are not among those of `gone`."""
    names = {image.reference for image in gone}
    return [image for image in images if image.reference not in names]


def references(images: Sequence[LoadedImage]) -> str:
    """Return the references of images as one text."""
    return ", ".join(image.reference for image in images)


def full_name(name: str) -> str:
    """Return the full reference by which nodes know an image of this name. Raises UsageError `reference-invalid`."""
    reference = parse(name)
    if reference.wanted is None:
        reference = Reference(reference.host, reference.repository, LATEST)
    return str(reference)


def _blob(described: Mapping[str, Any]) -> Blob:
    return Blob(described["digest"], described["size"])


def _index(images: Iterable[LoadedImage]) -> bytes:
    manifests = [
        {
            **descriptor(image.media_type, image.digest, len(image.manifest)),
            "platform": {"architecture": image.architecture, "os": "linux"},
            "annotations": {IMAGE_NAME: image.reference, REF_NAME: image.reference.rpartition(":")[2]},
        }
        for image in images
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": manifests}, indent=1).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
