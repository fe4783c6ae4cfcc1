"""The documents of OCI and Docker: manifests, indexes and descriptors."""

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
"""The annotations with the name of an image: all of it, and the tag alone, though some tools write all of it there too."""
LAYOUT_FILE, LAYOUT = "oci-layout", b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE = "index.json"
"""The files of an image layout beside its blobs."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Described = tuple[str, str, int]
"""Media type, digest and size."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index, byte for byte: its digest is that of these bytes."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The document's digest."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def descriptor(self, **more: object) -> dict[str, object]:
        """Return what an index says of the document."""
        return {**descriptor(self.media_type, self.digest, len(self.content)), **more}


def descriptor(media_type: str, digest: str, size: int, **more: object) -> dict[str, object]:
    """Return what a manifest says of a blob."""
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def blob_path(digest: str) -> str:
    """Return where an image layout has a blob."""
    return f"blobs/{digest.replace(':', '/')}"


def image_manifest(config: Described, layers: Iterable[Described]) -> Document:
    """Return the manifest of an image."""
    described = {"config": descriptor(*config), "layers": [descriptor(*layer) for layer in layers]}
    return written(IMAGE_MANIFEST, described)


def written(media_type: str, described: Mapping[str, object]) -> Document:
    """Return the document, the same bytes for the same content."""
    whole = {"schemaVersion": 2, "mediaType": media_type, **described}
    return Document(media_type, json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class Entry:
    """A descriptor of somebody else's document, with every member checked."""

    media_type: str
    digest: str
    size: int
    artifact_type: str
    annotations: Mapping[str, Any]


def parsed(content: bytes) -> dict[str, Any]:
    """Return the JSON object. Raises ValueError if the content is not JSON, and TypeError if it is not an object."""
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise TypeError("it is not a JSON object")
    return document


def entry(described: Any) -> Entry:  # noqa: ANN401 - JSON of somebody else's
    """Return what a descriptor says. Raises ValueError if it has no media type, digest of SHA-256 and size."""
    match described:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)}:
            if DIGEST.fullmatch(digest) and size >= 0:
                artifact_type = str(described.get("artifactType", ""))
                return Entry(media_type, digest, size, artifact_type, member(described, "annotations"))
    raise ValueError(f"{reprlib.repr(described)} has no media type, digest of SHA-256 and size")


def member(described: object, key: str) -> Mapping[str, Any]:
    """Return the JSON object at the key of another one; an empty one where either is not an object."""
    value = described.get(key) if isinstance(described, dict) else None
    return value if isinstance(value, dict) else {}
