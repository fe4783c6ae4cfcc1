"""Validation of the manifests and indexes that registries return."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from labctl.model.errors import MissingError
from labctl.transfer.documents import DIGEST, IMAGE_INDEXES, IMAGE_MANIFESTS, Document, parse_object
from labctl.transfer.exchange import FullResponse
from labctl.transfer.failures import without_secrets
from labctl.transfer.indexes import BROKEN, LINUX, Read, best, listed, resolve_platform
from labctl.transfer.reference import Reference
from labctl.transfer.store import Blob

SHA256 = "sha256:"


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """An image for one architecture: the digest of its manifest, and its blobs."""

    digest: str
    config: Blob
    layers: tuple[Blob, ...]


def from_response(reference: Reference, answer: FullResponse) -> Document:
    """Return the manifest in a registry's response. Raises MissingError `digest-mismatch` or `manifest-invalid`."""
    digest_header = answer.headers.get("Docker-Content-Digest", "")
    for expected in (
        reference.digest,
        digest_header if digest_header.startswith(SHA256) else None,
    ):  # it may be a SHA-512 digest
        check_digest(reference, answer, expected)
    content = _parse(reference, answer.content)
    header = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    media_type = str(content.get("mediaType") or header)  # unlike the header, the digest covers it
    if "manifests" in content and "layers" in content:  # the server's header would decide how it is read
        raise _invalid(reference, "it is a manifest and an index in one")
    manifest = Document(media_type, answer.content)
    if media_type in IMAGE_INDEXES:
        if not isinstance(content.get("manifests"), list):
            raise _invalid(reference, "it lists no manifests")
    elif media_type in IMAGE_MANIFESTS:
        image(reference, manifest)
    else:
        raise _invalid(reference, f"its type is {media_type or 'not given'}")
    return manifest


def container_image(reference: Reference, manifest: Document) -> ImageManifest:
    """Parse the manifest of a container image. Raises MissingError `manifest-invalid`, also for an artifact."""
    if artifact := _parse(reference, manifest.content).get("artifactType"):
        raise _invalid(reference, f"it is {str(artifact)[:100]}")
    return image(reference, manifest)


def image(reference: Reference, manifest: Document) -> ImageManifest:
    """Parse the manifest of an image or an artifact. Raises MissingError `manifest-invalid`."""
    content = _parse(reference, manifest.content)
    layers = content.get("layers")
    if not isinstance(layers, list):
        raise _invalid(reference, "it has no layers")
    config = blob(reference, content.get("config"))
    return ImageManifest(manifest.digest, config, tuple(blob(reference, layer) for layer in layers))


def choose(reference: Reference, index: Document, architecture: str, read: Read) -> Reference:
    """Return the reference, by digest, to an index's image for this architecture.

    Raises MissingError `manifest-invalid` or `architecture-missing`, and the errors of `read`.
    """
    platform = f"{LINUX}/{architecture}"
    try:
        manifests = [resolve_platform(each, read) for each in listed(parse_object(index.content), platform, read)]
    except BROKEN as error:
        raise _invalid(reference, str(error)) from error
    chosen = best(manifests, platform)
    if chosen is None:
        raise no_architecture_error(reference, architecture, [each.platform for each in manifests])
    return replace(reference, digest=blob(reference, chosen.described).digest)


def require_architecture(reference: Reference, config: bytes, architecture: str) -> None:
    """Check an image's architecture in its configuration, for images that are not in an index.

    Raises MissingError `architecture-missing`.
    """
    try:
        described = parse_object(config)
        platform = f"{described.get('os') or LINUX}/{described['architecture']}"
    except (ValueError, TypeError, KeyError):
        platform = "unknown"  # not a container image
    if platform != f"{LINUX}/{architecture}":
        raise no_architecture_error(reference, architecture, [platform])


def no_architecture_error(reference: Reference, architecture: str, platforms: list[str]) -> MissingError:
    """Return the error for an image that exists for other platforms only."""
    known = ", ".join(sorted({each for each in platforms if "unknown" not in each})) or "none"
    return MissingError(
        f"{reference} has no image for {LINUX}/{architecture}; it has {known}",
        id="architecture-missing",
        hint="Choose a version or an image that is published for this architecture.",
    )


def check_digest(reference: Reference, answer: FullResponse, expected: str | None) -> None:
    """Raise MissingError `digest-mismatch` if a manifest does not have the expected digest."""
    digest = f"{SHA256}{hashlib.sha256(answer.content).hexdigest()}"
    if expected not in {None, digest}:
        raise MissingError(
            f"the manifest of {reference} from {without_secrets(answer.url)} has the digest {digest} instead of {expected}",
            id="digest-mismatch",
            hint="It is damaged or was replaced. Run the same command again; if the error persists, check the source.",
        )


def _parse(reference: Reference, content: bytes) -> Mapping[str, Any]:
    try:
        return parse_object(content)
    except (ValueError, TypeError) as error:
        raise _invalid(reference, str(error)) from error


def blob(reference: Reference, descriptor: object) -> Blob:
    """Return the blob of a descriptor. Raises MissingError `manifest-invalid`."""
    match descriptor:
        case {"digest": str(digest), "size": int(size)} if DIGEST.fullmatch(digest) and size >= 0:
            return Blob(digest, size)
    raise _invalid(reference, f"{str(descriptor)[:100]} lacks a SHA-256 digest or a size")


def _invalid(reference: Reference, problem: str) -> MissingError:
    return MissingError(
        f"{reference}: the registry's answer is not an image manifest: {problem}",
        id="manifest-invalid",
        hint="Check the reference; if a mirror is named for its host, check that it is a registry.",
    )
