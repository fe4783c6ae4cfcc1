"""Container registries, as the OCI distribution specification has them: what is pulled and pushed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from labctl.model.errors import MissingError, UsageError
from labctl.model.events import Progress
from labctl.transfer.client import Answer, Client, Request, check
from labctl.transfer.fetch import Wanted
from labctl.transfer.mirrors import Mirrors
from labctl.transfer.reference import Reference
from labctl.transfer.store import Blob

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = {OCI_INDEX, DOCKER_LIST}
MANIFESTS = {OCI_MANIFEST, DOCKER_MANIFEST}
_OK, _CREATED, _NOT_FOUND = 200, 201, 404


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, byte for byte."""

    digest: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """An image for one architecture: its manifest's digest, and the blobs that it is made of."""

    digest: str
    config: Blob
    layers: tuple[Blob, ...]


class Registry:
    """Every registry that a reference can name, or the mirror that stands for it."""

    def __init__(self, mirrors: Mirrors, report: Progress) -> None:
        self._mirrors = mirrors
        self._report = report
        self._client = Client()
        self._manifests: dict[tuple[str, str, str], Manifest] = {}

    def manifest(self, reference: Reference) -> Manifest:
        """Return the manifest or index. One that was fetched by its digest is not fetched again."""
        key = (reference.host, reference.repository, reference.digest or "")
        if known := self._manifests.get(key):
            return known
        url = self._url(reference, f"manifests/{_wanted(reference)}")
        answer = self._client.ask(Request("GET", url, {"Accept": ", ".join([*MANIFESTS, *INDEXES])}))
        check(answer.status, url)
        manifest = _manifest(reference, answer)
        self._manifests[*key[:2], manifest.digest] = manifest
        return manifest

    def image(self, reference: Reference, architecture: str) -> ImageManifest:
        """Return the image of this architecture, in Go's words; out of an index if the reference is one's."""
        manifest = self.manifest(reference)
        content = _parsed(reference, manifest)
        if manifest.media_type in INDEXES:
            digest = _of_architecture(reference, content, architecture)
            manifest = self.manifest(replace(reference, digest=digest))
            content = _parsed(reference, manifest)
        return ImageManifest(manifest.digest, _blob(content["config"]), tuple(map(_blob, content["layers"])))

    def wanted(self, reference: Reference, blob: Blob) -> Wanted:
        """Return how a blob of the repository is fetched."""
        name = f"{reference} {blob.digest[:19]}"
        return Wanted(name, self._url(reference, f"blobs/{blob.digest}"), blob.digest, blob.size)

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Return whether the repository has the blob."""
        url = self._url(reference, f"blobs/{digest}")
        answer = self._client.ask(Request("HEAD", url))
        if answer.status != _NOT_FOUND:
            check(answer.status, url)
        return answer.status == _OK

    def upload(self, reference: Reference, digest: str, path: Path, report: Progress) -> None:
        """Push the file as a blob of the repository."""
        report(f"pushing {digest[:19]} to {reference}")
        url = self._url(reference, "blobs/uploads/")
        answer = self._client.ask(Request("POST", url))
        check(answer.status, url)
        target = urljoin(url, answer.headers["Location"])
        target += f"{'&' if urlsplit(target).query else '?'}digest={digest}"
        with path.open("rb") as file:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
            check(self._client.ask(Request("PUT", target, headers, file)).status, url)

    def put_manifest(self, reference: Reference, manifest: Manifest) -> None:
        """Push a manifest or an index, whose blobs and manifests are there, under the reference's tag or its digest."""
        url = self._url(reference, f"manifests/{reference.tag or manifest.digest}")
        answer = self._client.ask(Request("PUT", url, {"Content-Type": manifest.media_type}, manifest.content))
        check(answer.status, url)

    def _url(self, reference: Reference, path: str) -> str:
        return f"{self._mirrors.registry(reference.host, reference.repository)}/{path}"


def _wanted(reference: Reference) -> str:
    if reference.wanted is None:
        raise UsageError(
            f"{reference} names neither a tag nor a digest",
            id="reference-without-tag",
            hint=f"Write {reference}:TAG or {reference}@sha256:DIGEST.",
        )
    return reference.wanted


def _manifest(reference: Reference, answer: Answer) -> Manifest:
    digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    if reference.digest not in {None, digest}:
        raise MissingError(
            f"the manifest of {reference} from {answer.url} has the digest {digest} instead of {reference.digest}",
            id="digest-mismatch",
            hint="The file is damaged, or another one. Get it again.",
        )
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return Manifest(digest, media_type, answer.content)


def _parsed(reference: Reference, manifest: Manifest) -> Mapping[str, Any]:
    try:
        content = json.loads(manifest.content)
    except ValueError as error:
        raise _no_manifest(reference, str(error)) from error
    if not isinstance(content, dict) or manifest.media_type not in MANIFESTS | INDEXES:
        raise _no_manifest(reference, f"its type is {manifest.media_type or 'not told'}")
    return content


def _of_architecture(reference: Reference, index: Mapping[str, Any], architecture: str) -> str:
    platforms = [each["platform"] for each in index["manifests"]]
    for entry, platform in zip(index["manifests"], platforms, strict=True):
        if (platform["os"], platform["architecture"]) == ("linux", architecture):
            return str(entry["digest"])
    raise MissingError(
        f"{reference} has no image for linux/{architecture}: it has "
        + ", ".join(f"{each['os']}/{each['architecture']}" for each in platforms),
        id="architecture-missing",
        hint="Take a version, or another image, that is published for this architecture.",
    )


def _blob(descriptor: Mapping[str, Any]) -> Blob:
    return Blob(str(descriptor["digest"]), int(descriptor["size"]))


def _no_manifest(reference: Reference, problem: str) -> MissingError:
    return MissingError(
        f"{reference}: what the registry sent is no manifest of an image: {problem}",
        id="manifest-invalid",
        hint="Check the reference; if a mirror is named for its host, check that it is a registry.",
    )
