"""A client of container registries, which implements the OCI distribution specification."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer import manifests
from labctl.transfer.client import Client
from labctl.transfer.documents import IMAGE_CONFIGS, IMAGE_INDEXES, IMAGE_MANIFESTS, Document, parse_object
from labctl.transfer.download import Wanted
from labctl.transfer.exchange import Request
from labctl.transfer.login import Login
from labctl.transfer.manifests import ImageManifest
from labctl.transfer.mirrors import Mirrors
from labctl.transfer.parallel import StoppedError
from labctl.transfer.reference import Reference, require_wanted
from labctl.transfer.refusals import NOT_FOUND, OK
from labctl.transfer.store import Blob
from labctl.transfer.upload import VERIFYING_SECONDS, Upload

PULL, PUSH = "pull", "pull,push"
ACCEPT = ", ".join([*IMAGE_MANIFESTS, *IMAGE_INDEXES])
SHORT = 19
"""The length of a digest in messages."""


class Registry:
    """A client of every registry that a reference can name, or of its mirror."""

    def __init__(self, mirrors: Mirrors, report: Progress) -> None:
        self._mirrors = mirrors
        self._stopped = threading.Event()
        self._client = Client(report, sleep=self._sleep, named=mirrors.table.values())
        self._logins: dict[tuple[str, str], Login] = {}
        self._manifests: dict[tuple[str, str, str], Document] = {}

    def manifest(self, reference: Reference, actions: str = PULL) -> Document:
        """Return the manifest or index; one that is known by its digest is not fetched again.

        Before a push, set `actions` to PUSH: many registries deny a pull from a repository that does not exist yet.
        Raises LabError; `tag-not-found`, `manifest-invalid` and `digest-mismatch` are specific to manifests.
        """
        place = (reference.host, reference.repository)
        if known := self._manifests.get((*place, reference.digest or "")):
            return known
        url = self._url(reference, f"manifests/{require_wanted(reference)}")
        login = self._login(reference, actions)
        answer = self._client.send(Request("GET", url, {"Accept": ACCEPT}), login=login, fine=[NOT_FOUND])
        if answer.status == NOT_FOUND:
            raise _not_found(reference, url)
        manifest = manifests.from_response(reference, answer)
        self._manifests[*place, manifest.digest] = manifest
        return manifest

    def image(self, reference: Reference, architecture: str) -> ImageManifest:
        """Return the image for this architecture (a GOARCH value), chosen from the index if the reference is to one.

        The architecture of an image outside of an index is not checked: see `manifests.require_architecture`.
        Raises LabError as `manifest` does, and `architecture-missing`.
        """
        manifest = self.manifest(reference)
        if manifest.media_type in IMAGE_INDEXES:
            reference = manifests.choose(reference, manifest, architecture, partial(self.document, reference))
            manifest = self.manifest(reference)
        return manifests.container_image(reference, manifest)

    def document(self, reference: Reference, described: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the document of a descriptor: an index or a manifest of the repository, or an image's configuration.

        Raises LabError as `manifest` does, ValueError if it is not JSON, and TypeError if it is not a JSON object.
        """
        blob = manifests.blob(reference, described)
        own = replace(reference, digest=blob.digest)
        if described.get("mediaType") not in IMAGE_CONFIGS:
            return parse_object(self.manifest(own).content)
        request = Request("GET", self._url(reference, f"blobs/{blob.digest}"))
        answer = self._client.send(request, login=self._login(reference, PULL))
        manifests.check_digest(own, answer, blob.digest)
        return parse_object(answer.content)

    def wanted(self, reference: Reference, blob: Blob) -> Wanted:
        """Return the request to fetch a blob of the repository."""
        return Wanted(
            f"{reference.host}/{reference.repository} {blob.digest[:SHORT]}",
            self._url(reference, f"blobs/{blob.digest}"),
            blob.digest,
            blob.size,
            login=self._login(reference, PULL),
        )

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Return whether the repository has the blob."""
        request = Request("HEAD", self._url(reference, f"blobs/{digest}"))
        return self._client.send(request, login=self._login(reference, PUSH), fine=[NOT_FOUND]).status == OK

    def upload(self, reference: Reference, digest: str, path: Path, report: Progress) -> None:
        """Push a file as a blob of the repository; resume after a lost connection.

        Raises LabError. The registry discards an incomplete upload by itself.
        """
        upload = Upload(self._client, self._login(reference, PUSH), self._url(reference, "blobs"), digest, path)
        upload.complete(f"pushing {digest[:SHORT]} to {reference.host}", report)

    def put_manifest(self, reference: Reference, manifest: Document) -> None:
        """Push a manifest or an index, by the reference's tag or else its digest; push what it references before."""
        url = self._url(reference, f"manifests/{reference.tag or manifest.digest}")
        headers = {"Content-Type": manifest.media_type}
        request = Request("PUT", url, headers, manifest.content, silence=VERIFYING_SECONDS)
        self._client.send(request, login=self._login(reference, PUSH))

    def stop(self) -> None:
        """Abort the transfers of all threads; none of them retries."""
        self._stopped.set()
        self._client.stop()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise StoppedError

    def _login(self, reference: Reference, actions: str) -> Login:
        base = self._mirrors.registry(reference.host, reference.repository)
        scope = f"repository:{base.partition('/v2/')[2]}:{actions}"
        return self._logins.setdefault((base, actions), self._client.login(base, scope))

    def _url(self, reference: Reference, path: str) -> str:
        return f"{self._mirrors.registry(reference.host, reference.repository)}/{path}"


def _not_found(reference: Reference, url: str) -> MissingError:
    what = f"the digest {reference.digest}" if reference.digest else f"the tag {reference.tag}"
    return MissingError(
        f"{reference.host}/{reference.repository} does not have {what} ({url})",
        id="tag-not-found",
        hint="Check the name and the version. If the host has a mirror, check that the mirror has the image.",
    )
