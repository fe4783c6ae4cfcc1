"""The documents of OCI and Docker: manifests, indexes and descriptors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar"
IMAGE_MANIFESTS = (IMAGE_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
IMAGE_INDEXES = (IMAGE_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")

Described = tuple[str, str, int]
"""Media type, digest and size."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a registry keeps: its digest is that of these bytes."""

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


def image_manifest(config: Described, layers: Iterable[Described]) -> Document:
    """Return the manifest of an image."""
    described = {"config": descriptor(*config), "layers": [descriptor(*layer) for layer in layers]}
    return written(IMAGE_MANIFEST, described)


def written(media_type: str, described: Mapping[str, object]) -> Document:
    """Return the document, the same bytes for the same content."""
    whole = {"schemaVersion": 2, "mediaType": media_type, **described}
    return Document(media_type, json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())
