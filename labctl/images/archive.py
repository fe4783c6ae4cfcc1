"""Image archives that docker, podman, buildx and skopeo write: their images, and the blobs of these.

From an OCI layout, the image for the lab's architecture is used unchanged. A `docker save` archive has no manifests:
labctl generates one, which is always the same for the same image.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import posixpath
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labctl.images.store import NewImage
from labctl.model.errors import MissingError, UsageError
from labctl.transfer import tars
from labctl.transfer.documents import (
    DIGEST,
    IMAGE_CONFIG,
    IMAGE_LAYER,
    IMAGE_MANIFEST,
    IMAGE_NAME,
    INDEX_FILE,
    REF_NAME,
    Described,
    blob_path,
    image_manifest,
)
from labctl.transfer.indexes import BROKEN, LINUX, best, listed, resolve_platform
from labctl.transfer.store import Blob

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from _typeshed import SupportsRead

DOCKER_FILE = "manifest.json"
Reader = Callable[[Path], "AbstractContextManager[SupportsRead[bytes]]"]
COMPRESSIONS: Mapping[bytes, Reader] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"\x28\xb5\x2f\xfd": zstd.ZstdFile,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
"""The magic number of each compression of archives, and its reader."""
SUFFIXES = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
"""The magic number of each compression of layers, and the suffix of its media type."""
NOT_UNPACKED = (EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""The errors of damaged compressed content, besides an OSError without errno."""
MAX_DOCUMENT = 16 << 20
"""Bytes. More than any manifest or configuration has."""


@dataclass(frozen=True, slots=True)
class Archived:
    """An image in an archive: its names there, and the file of each of its blobs, by digest."""

    names: tuple[str, ...]
    image: NewImage
    files: Mapping[str, str]


@contextmanager
def open_archive(path: Path, scratch: Path | None = None) -> Iterator[Archive]:
    """Open the archive at `path`; unpack a compressed one to the file `scratch`, which the caller removes.

    Without `scratch`, it must not be compressed.
    Raises UsageError `archive-unreadable` if it is not an image archive, and `archive-damaged` if it is truncated.
    """
    with path.open("rb") as file:
        begin = file.read(8)
    plain = path
    for magic, reader in COMPRESSIONS.items():
        if begin.startswith(magic) and scratch:
            plain = scratch
            _unpack(path, reader, scratch)
    tar = tars.open_tar(plain, partial(unreadable_error, path))
    try:
        with tar:
            yield Archive(path, tar)
    except tarfile.TarError as error:
        raise damaged_error(path, str(error)) from error


def _unpack(path: Path, reader: Reader, target: Path) -> None:
    try:
        with reader(path) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    except NOT_UNPACKED as error:
        raise damaged_error(path, str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno is not None:  # an error of the system, such as a full disk
            raise
        raise damaged_error(path, str(error)) from error


class Archive:
    """An open image archive."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self.path = path
        self._tar = tar
        members = tars.members(tar, partial(damaged_error, path))
        self._members = {member.name.removeprefix("./"): member for member in members}

    def images(self, architecture: str) -> tuple[Archived, ...]:
        """Return the named images of the archive.

        Raises MissingError `architecture-missing` if one is not available for this architecture, UsageError
        `image-unnamed` if none has a name, and the errors of `open_archive`.
        """
        try:
            images = self._layout_images(architecture) if INDEX_FILE in self._members else []
            if not images and DOCKER_FILE in self._members:
                images = [self._docker_image(entry, architecture) for entry in self._json(DOCKER_FILE)]
        except BROKEN as error:
            raise unreadable_error(self.path, f"it does not describe images ({error!r})") from error
        if INDEX_FILE not in self._members and DOCKER_FILE not in self._members:
            if self._is_cut_off():
                raise damaged_error(self.path, "it is truncated")
            raise unreadable_error(self.path, f"it has neither {INDEX_FILE} nor {DOCKER_FILE}")
        named = tuple(each for each in images if each.names)
        if not named:
            raise UsageError(
                f"{self.path} has no image with a name",
                id="image-unnamed",
                hint="Name the image before it is saved: `docker tag IMAGE NAME:TAG`, then `docker save NAME:TAG`.",
            )
        return named

    def extract(self, archived: Archived, blob: Blob, target: Path) -> None:
        """Write a blob of the image to the file `target`. Raises UsageError `archive-damaged`."""
        name, digest, size = archived.files[blob.digest], hashlib.sha256(), 0
        with self._open(name) as source, target.open("wb") as file:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                size += file.write(chunk)
        if (f"sha256:{digest.hexdigest()}", size) != (blob.digest, blob.size):
            raise damaged_error(self.path, f"the content of {name} does not match its digest {blob.digest}")

    def _layout_images(self, architecture: str) -> list[Archived]:
        """Return the named images of an OCI layout."""
        indexes: dict[str, list[Mapping[str, Any]]] = {}
        for each in self._json(INDEX_FILE)["manifests"]:
            annotations = each.get("annotations") or {}
            name = annotations.get(IMAGE_NAME) or annotations.get(REF_NAME) or ""
            if ":" in name or "/" in name:  # a tag alone is not a name
                indexes.setdefault(name, []).append(each)
        by_digest: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
        for name, manifests in indexes.items():
            chosen = self._chosen(name, {"manifests": manifests}, architecture)
            by_digest.setdefault(chosen["digest"], (chosen, []))[1].append(name)
        return [self._manifest_image(chosen, names, architecture) for chosen, names in by_digest.values()]

    def _chosen(self, name: str, index: Mapping[str, Any], architecture: str) -> Mapping[str, Any]:
        """Return the descriptor of the image for this architecture in an index."""
        platform = f"{LINUX}/{architecture}"
        # Of a multi-platform image, Docker saves only the platforms that it has.
        there = [each for each in listed(index, platform, self._document) if self._has(each.described)]
        manifests = [resolve_platform(each, self._document) for each in there]
        chosen = best(manifests, platform)
        if chosen is None:
            raise self._other_architecture(name, architecture, [each.platform for each in manifests])
        return chosen.described

    def _has(self, described: Mapping[str, Any]) -> bool:
        return _file(described["digest"]) in self._members

    def _document(self, described: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self._read_verified(described)) if self._has(described) else None

    def _read_verified(self, described: Mapping[str, Any]) -> bytes:
        """Return a document. Raises UsageError `archive-damaged` if its content does not match its digest."""
        content = self._read(_file(described["digest"]))
        if _digest(content) != described["digest"]:
            raise damaged_error(self.path, f"the content of a document does not match its digest {described['digest']}")
        return content

    def _manifest_image(self, described: Mapping[str, Any], names: Sequence[str], architecture: str) -> Archived:
        content = self._read_verified(described)
        image = NewImage(content, described.get("mediaType") or IMAGE_MANIFEST, architecture)
        if not all(isinstance(blob.size, int) for blob in image.blobs):
            raise ValueError(f"{names[0]} has a blob without a size")
        files = {blob.digest: _file(blob.digest) for blob in image.blobs}
        if missing := [digest for digest, file in files.items() if file not in self._members]:
            raise damaged_error(self.path, f"{missing[0]} of {names[0]} is missing")
        config = json.loads(self._read_verified(json.loads(content)["config"]))
        self._require_architecture(names[0], {"architecture": architecture, **config}, architecture)
        return Archived(tuple(names), image, files)

    def _docker_image(self, entry: Mapping[str, Any], architecture: str) -> Archived:
        """Return an image of a `docker save` archive, with a generated manifest."""
        names = tuple(entry.get("RepoTags") or ())
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{names} are not names")
        config = self._read(entry["Config"])
        document = json.loads(config)
        self._require_architecture(names[0] if names else entry["Config"], document, architecture)
        files, layers = {_digest(config): entry["Config"]}, []
        for file, diff_id in zip(entry["Layers"], document["rootfs"]["diff_ids"], strict=True):
            media_type, digest, size = self._layer(file)
            if media_type == IMAGE_LAYER and digest != diff_id:
                raise damaged_error(self.path, f"the content of {file} does not match its digest {diff_id}")
            layers.append((media_type, digest, size))
            files[digest] = file
        manifest = image_manifest((IMAGE_CONFIG, _digest(config), len(config)), layers)
        return Archived(names, NewImage(manifest.content, manifest.media_type, architecture), files)

    def _is_cut_off(self) -> bool:
        """Return whether the zero block at the end is missing: to tarfile, a truncated archive looks complete."""
        with Path(str(self._tar.name)).open("rb") as file:
            file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
            return file.read() != bytes(tarfile.BLOCKSIZE)

    def _layer(self, file: str) -> Described:
        with self._open(file) as content:
            begin = content.read(8)
            content.seek(0)
            digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
            size = content.tell()
        suffix = next((suffix for magic, suffix in SUFFIXES.items() if begin.startswith(magic)), "")
        return IMAGE_LAYER + suffix, f"sha256:{digest}", size

    def _open(self, name: str) -> IO[bytes]:
        """Open a file of the archive, or the file that a link names.

        Before version 25, Docker writes a layer that several images share once, and symbolic links to it.
        """
        member = self._members.get(name.removeprefix("./"))
        if member and (member.issym() or member.islnk()):
            folder = posixpath.dirname(member.name) if member.issym() else ""
            member = self._members.get(posixpath.normpath(posixpath.join(folder, member.linkname)))
        is_file = member is not None and member.isreg() and not member.issparse()
        content = self._tar.extractfile(member) if member and is_file else None
        if content is None:
            raise damaged_error(self.path, f"it has no file {name}")
        return content

    def _read(self, name: str) -> bytes:
        with self._open(name) as file:
            content = file.read(MAX_DOCUMENT + 1)
        if len(content) > MAX_DOCUMENT:
            raise ValueError(f"{name} is too large")
        return content

    def _json(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self._read(name))

    def _require_architecture(self, name: str, config: Mapping[str, Any], architecture: str) -> None:
        """Raise MissingError `architecture-missing` if the image with this configuration is for another platform."""
        platform = f"{config.get('os') or LINUX}/{config['architecture']}"
        if platform != f"{LINUX}/{architecture}":
            raise self._other_architecture(name, architecture, [platform])

    def _other_architecture(self, name: str, wanted: str, platforms: Sequence[str]) -> MissingError:
        """Return the error for an image that the lab's nodes cannot run."""
        there = ", ".join(sorted({each for each in platforms if "unknown" not in each})) or "an unknown platform"
        return MissingError(
            f"{self.path}: {name} is for {there}, but the lab's nodes are linux/{wanted}",
            id="architecture-missing",
            hint=f"Build the image for this platform (`docker build --platform linux/{wanted}`), or pull one that has it.",
        )


def unreadable_error(path: Path, why: str) -> UsageError:
    """Return the error for a file that is not an image archive."""
    return UsageError(
        f"{path} is not an image archive: {why}",
        id="archive-unreadable",
        hint="Give a file that `docker save` wrote, or an OCI image layout in a tar archive, plain or compressed with gzip, zstd, xz or bzip2.",
    )


def damaged_error(path: Path, why: str) -> UsageError:
    """Return the error for an image archive with missing or changed content."""
    return UsageError(
        f"{path} is damaged: {why}", id="archive-damaged", hint="Copy the file again, or save the image again."
    )


def _file(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a SHA-256")
    return blob_path(digest)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
