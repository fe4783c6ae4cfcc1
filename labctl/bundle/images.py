"""Container image archives: an OCI image layout that both containerd and `docker load` import.

The same input gives the same bytes. Layers that labctl makes are not compressed, so importing one only copies it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labctl.bundle.checksums import sha256
from labctl.transfer.documents import (
    IMAGE_CONFIG,
    IMAGE_INDEX,
    IMAGE_LAYER,
    IMAGE_NAME,
    INDEX_FILE,
    LAYOUT,
    LAYOUT_FILE,
    REF_NAME,
    Document,
    blob_path,
    image_manifest,
    serialise,
)

EPOCH = 1_790_000_000
"""The modification time of every file, and the creation time of every image that labctl makes: 2026-09-21T14:13:20Z."""
CREATED = "2026-09-21T14:13:20Z"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file in an image, with the content of file `source`. Paths in images have no leading slash."""

    path: str
    source: Path
    mode: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link in an image."""

    path: str
    target: str


def write_layer(layer: Path, entries: Iterable[Copy | Link]) -> None:
    """Write the entries and their folders, all owned by root, to the tar archive `layer`."""
    by_path = {entry.path: entry for entry in entries}
    folders = {str(parent) for path in by_path for parent in PurePosixPath(path).parents} - {"."}
    with tarfile.open(layer, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted({*folders, *by_path}):
            _add_entry(tar, path, by_path.get(path))


def write_archive(
    archive: Path, *, reference: str, architecture: str, config: Mapping[str, object], layers: Sequence[Path]
) -> None:
    """Write an image with this full reference and these uncompressed layers, the lowest first, to `archive`.

    `config` is the `config` object of the OCI image configuration: Entrypoint, Env and so on.
    """
    layer_digests = [sha256(layer) for layer in layers]
    image = _json(
        {
            "architecture": architecture,
            "config": config,
            "created": CREATED,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layer_digests]},
        }
    )
    manifest = image_manifest(
        (IMAGE_CONFIG, f"sha256:{_digest(image)}", len(image)),
        [
            (IMAGE_LAYER, f"sha256:{digest}", layer.stat().st_size)
            for digest, layer in zip(layer_digests, layers, strict=True)
        ],
    )
    by_digest = dict(zip(layer_digests, layers, strict=True))
    _write_layout(archive, Named(reference, architecture, manifest.media_type), manifest.content, image, by_digest)


@dataclass(frozen=True, slots=True)
class Named:
    """An image: its full reference, its architecture, and the media type of its manifest."""

    reference: str
    architecture: str
    media_type: str


def write_pulled(archive: Path, named: Named, *, manifest: bytes, config: bytes, layers: Mapping[str, Path]) -> None:
    """Write an image to `archive` as its registry serves it, with unchanged layers, keyed by hexadecimal SHA-256."""
    _write_layout(archive, named, manifest, config, layers)


def _write_layout(archive: Path, named: Named, manifest: bytes, config: bytes, layers: Mapping[str, Path]) -> None:
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add_bytes(tar, LAYOUT_FILE, LAYOUT)
        _add_bytes(tar, INDEX_FILE, _index(named, manifest))
        _add_bytes(tar, "manifest.json", _docker_manifest(named.reference, _digest(config), list(layers)))
        for blob in (manifest, config):
            _add_bytes(tar, _blob(_digest(blob)), blob)
        for digest, layer in layers.items():
            _add_file(tar, _blob(digest), layer, 0o644)


def reference_of(archive: Path) -> str:
    """Return the full reference of the image in an archive that this module wrote."""
    with tarfile.open(archive, "r:") as tar:
        member = tar.extractfile(INDEX_FILE)
        if member is None:
            raise ValueError(f"{INDEX_FILE} in {archive} is not a file")
        return str(json.load(member)["manifests"][0]["annotations"][IMAGE_NAME])


def _index(named: Named, manifest: bytes) -> bytes:
    described = Document(named.media_type, manifest).descriptor(
        platform={"architecture": named.architecture, "os": "linux"},
        annotations={IMAGE_NAME: named.reference, REF_NAME: named.reference.rpartition(":")[2]},
    )
    return serialise(IMAGE_INDEX, {"manifests": [described]}).content


def _docker_manifest(reference: str, image_digest: str, layer_digests: Sequence[str]) -> bytes:
    layers = [_blob(digest) for digest in layer_digests]
    return _json([{"Config": _blob(image_digest), "RepoTags": [reference], "Layers": layers}])


def _blob(digest: str) -> str:
    return blob_path(f"sha256:{digest}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _add_entry(tar: tarfile.TarFile, path: str, entry: Copy | Link | None) -> None:
    match entry:
        case Copy():
            _add_file(tar, path, entry.source, entry.mode)
        case Link():
            member = _member(path, 0o777)
            member.type, member.linkname = tarfile.SYMTYPE, entry.target
            tar.addfile(member)
        case None:
            member = _member(path, 0o755)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)


def _add_file(tar: tarfile.TarFile, path: str, source: Path, mode: int) -> None:
    member = _member(path, mode)
    with source.open("rb") as file:
        member.size = source.stat().st_size
        tar.addfile(member, file)


def _add_bytes(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    member = _member(path, 0o644)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _member(path: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mode, member.mtime = mode, EPOCH
    return member
