"""Splitting an image archive into blobs and a skeleton, and reassembling it byte for byte.

The skeleton holds the archive's bytes between the blobs: headers, padding and small files. So the archive of any tool
survives unchanged, and its layers are transferred once, as the blobs of an ordinary image.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.bundle.spans import Content, Span, digest_of, read_all
from labctl.transfer import tars
from labctl.transfer.documents import (
    IMAGE_CONFIG,
    IMAGE_INDEXES,
    IMAGE_LAYER,
    IMAGE_MANIFESTS,
    INDEX_FILE,
    Document,
    blob_path,
    image_manifest,
    parse_object,
)

SMALLEST_BLOB = 4096
"""Bytes. Smaller files stay in the skeleton."""
LARGEST_SKELETON = 1 << 20
"""Bytes. An archive with more bytes outside its blobs is transferred as one file."""
_LARGEST_DOCUMENT = 4 << 20


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an archive."""

    skeleton: bytes
    blobs: Mapping[str, Span]
    """The files in the archive that the skeleton refers to, by digest."""
    image: Document | None
    """The manifest of the image for this architecture; None unless there is exactly one."""
    image_blobs: Mapping[str, Content]
    """The blobs that this manifest refers to, by digest."""


def split_archive(archive: Path, architecture: str) -> Parts | None:
    """Return the parts of an archive; None if it cannot be split, and must be transferred as one file."""
    try:
        with tars.open_tar(archive, ValueError) as tar:
            files = [
                (member.name.removeprefix("./"), Span(archive, member.offset_data, member.size))
                for member in tars.members(tar, ValueError)
                if member.isreg() and not member.issparse()
            ]
    except ValueError:
        return None
    blobs = [(digest_of(span), span) for _, span in files if span.size >= SMALLEST_BLOB]
    if archive.stat().st_size - sum(span.size for _, span in blobs) > LARGEST_SKELETON:
        return None
    manifest, image_blobs = _image(dict(files), architecture) or (None, {})
    return Parts(_skeleton(archive, blobs), dict(blobs), manifest, image_blobs)


def reassemble(skeleton: bytes, blob: Callable[[str], Content]) -> Iterator[tuple[str | None, Content]]:
    """Yield the archive's content in order: each blob with its expected digest, the skeleton's own bytes with None.

    Raises ValueError, LookupError or TypeError if the skeleton is invalid.
    """
    for piece in parse_object(skeleton)["pieces"]:
        if "bytes" in piece:
            yield None, base64.b64decode(piece["bytes"], validate=True)
        else:
            digest = str(piece["digest"])
            yield digest, blob(digest)


def referenced_blobs(skeleton: bytes) -> list[str]:
    """Return the digests of the blobs that a skeleton refers to. Raises as `reassemble`."""
    return [str(piece["digest"]) for piece in parse_object(skeleton)["pieces"] if "digest" in piece]


def _skeleton(archive: Path, blobs: Sequence[tuple[str, Span]]) -> bytes:
    """Return the skeleton: in order, references to the blobs and the bytes between them."""
    pieces: list[dict[str, object]] = []
    position = 0
    for digest, span in (*blobs, ("", Span(archive, archive.stat().st_size, 0))):
        between = read_all(Span(archive, position, span.offset - position))
        pieces.append({"bytes": base64.b64encode(between).decode()})
        if digest:
            pieces.append({"digest": digest, "size": span.size})
        position = span.offset + span.size
    return json.dumps({"pieces": pieces}, separators=(",", ":")).encode()


def _image(files: Mapping[str, Span], architecture: str) -> tuple[Document, Mapping[str, Content]] | None:
    """Return the manifest and the blobs of the image in an OCI layout or an archive of `docker save`."""
    try:
        if INDEX_FILE in files:
            return _layout_image(files, _read_json(files, INDEX_FILE), architecture)
        if "manifest.json" in files:
            return _docker_image(files, json.loads(_bytes(files, "manifest.json")), architecture)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # content that labctl does not understand: the archive is transferred without an image
    return None


def _layout_image(
    files: Mapping[str, Span], index: dict[str, Any], architecture: str
) -> tuple[Document, Mapping[str, Content]] | None:
    fitting = [each for each in index["manifests"] if _matches_architecture(each.get("platform", {}), architecture)]
    if len(fitting) != 1:
        return None
    (descriptor,) = fitting
    if descriptor["mediaType"] in IMAGE_INDEXES:
        return _layout_image(files, _read_json(files, _path(descriptor)), architecture)
    if descriptor["mediaType"] not in IMAGE_MANIFESTS:
        return None
    manifest = Document(descriptor["mediaType"], _bytes(files, _path(descriptor)))
    described = json.loads(manifest.content)
    blobs = {each["digest"]: files[_path(each)] for each in (described["config"], *described["layers"])}
    return (
        (manifest, blobs)
        if _matches_architecture(_read_json(files, _path(described["config"])), architecture)
        else None
    )


def _docker_image(
    files: Mapping[str, Span], saved: list[dict[str, Any]], architecture: str
) -> tuple[Document, Mapping[str, Content]] | None:
    (image,) = saved
    if not _matches_architecture(_read_json(files, image["Config"]), architecture):
        return None
    config, *layers = [(digest_of(files[name]), files[name]) for name in (image["Config"], *image["Layers"])]
    manifest = image_manifest(
        (IMAGE_CONFIG, config[0], config[1].size), [(IMAGE_LAYER, digest, span.size) for digest, span in layers]
    )
    return manifest, dict([config, *layers])


def _matches_architecture(platform: Mapping[str, Any], architecture: str) -> bool:
    """Return whether a platform, or an image's configuration, is for this architecture or names none."""
    return bool(platform.get("architecture", architecture) == architecture)


def _path(descriptor: Mapping[str, Any]) -> str:
    return blob_path(str(descriptor["digest"]))


def _read_json(files: Mapping[str, Span], name: str) -> dict[str, Any]:
    return parse_object(_bytes(files, name))


def _bytes(files: Mapping[str, Span], name: str) -> bytes:
    if files[name].size > _LARGEST_DOCUMENT:
        raise ValueError(f"{name} has {files[name].size} bytes")
    return read_all(files[name])
