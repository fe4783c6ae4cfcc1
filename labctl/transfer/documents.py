"""Documents of OCI and Docker: manifests, indexes and descriptors."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
IMAGE_CONFIGS = (IMAGE_CONFIG, "application/vnd.docker.container.image.v1+json")
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar"
IMAGE_MANIFESTS = (IMAGE_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
IMAGE_INDEXES = (IMAGE_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
"""Annotations with an image's name: the full name, and the tag alone, where some tools write the full name too."""
LAYOUT_FILE, LAYOUT = "oci-layout", b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE = "index.json"
"""The files of an image layout beside its blobs."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Described = tuple[str, str, int]
"""Media type, digest and size."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index as the exact bytes that its digest covers."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The document's digest."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def descriptor(self, **more: object) -> dict[str, object]:
        """Return the document's descriptor for an index."""
        return {**descriptor(self.media_type, self.digest, len(self.content)), **more}


def descriptor(media_type: str, digest: str, size: int, **more: object) -> dict[str, object]:
    """Return a blob's descriptor for a manifest."""
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def blob_path(digest: str) -> str:
    """Return a blob's path in an image layout."""
    return f"blobs/{digest.replace(':', '/')}"


def image_manifest(config: Described, layers: Iterable[Described]) -> Document:
    """Return the manifest of an image."""
    described = {"config": descriptor(*config), "layers": [descriptor(*layer) for layer in layers]}
    return serialise(IMAGE_MANIFEST, described)


def serialise(media_type: str, described: Mapping[str, object]) -> Document:
    """Serialise a document; the same content gives the same bytes."""
    whole = {"schemaVersion": 2, "mediaType": media_type, **described}
    return Document(media_type, json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class Entry:
    """A validated descriptor from a foreign document."""

    media_type: str
    digest: str
    size: int
    artifact_type: str
    annotations: Mapping[str, Any]


def parse_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object. Raises ValueError if the content is not JSON, and TypeError if it is not an object."""
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise TypeError("it is not a JSON object")
    return document


def entry(described: Any) -> Entry:  # noqa: ANN401 - foreign JSON
    """Validate a descriptor. Raises ValueError if it lacks a media type, a SHA-256 digest or a size."""
    match described:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)}:
            if DIGEST.fullmatch(digest) and size >= 0:
                artifact_type = str(described.get("artifactType", ""))
                return Entry(media_type, digest, size, artifact_type, object_at(described, "annotations"))
    raise ValueError(f"{reprlib.repr(described)} lacks a media type, a SHA-256 digest or a size")


def object_at(described: object, key: str) -> Mapping[str, Any]:
    """Return the JSON object at a key of another one; an empty one if either is not an object."""
    value = described.get(key) if isinstance(described, dict) else None
    return value if isinstance(value, dict) else {}
