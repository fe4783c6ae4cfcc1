"""The client of the Kubernetes API; the only module that imports the kubernetes package."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from labctl.host import paths
from labctl.host.disk_space import FULL
from labctl.host.failpoints import failpoint
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError, NotReadyError, RefusedError
from labctl.model.lab import FIELD_MANAGER
from labctl.model.limits import NORMAL, Limits

Manifest = Mapping[str, Any]
"""One Kubernetes object, as a mapping."""

LOG_LINES = 500
BEGINNING = 2000
"""The maximum number of bytes to read of a pod's response."""
BOOKKEEPING = ("managedFields", "resourceVersion")
UNREADY_WEBHOOK = ("failed calling webhook", "denied the request: Unauthorized")
"""The API server's messages while a fail-closed webhook does not answer, or while its pod terminates and has lost its
rights."""

MALFORMED_ERRORS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Exceptions that the client raises for kubeconfig values of an unexpected type."""
NOT_TRUSTED = "api-not-trusted"
BUSY = "api-busy"
REPEAT_SECONDS = 1.0
"""The pause before a request is retried: the API server's usual Retry-After."""
TIMED_OUT = 504
"""The HTTP status of a request that timed out in a slow API server or etcd; it comes without Retry-After."""
FAILED = 500
"""The lowest HTTP status of a failure of the API server itself, such as an etcd timeout."""
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""The text in Python's TLS errors about an untrusted certificate, which a retry does not fix."""


_NOWHERE = logging.NullHandler()
"""Keeps the client's log off stderr: it warns of a truncated discovery cache, which the client recreates."""


class _Limited(DynamicClient):  # type: ignore[misc] # the client is untyped
    """A client with a time limit for every request, including its own discovery requests.

    It retries a request that the API server asks to repeat for up to `patience` seconds, as kubectl does: for example,
    the API server refuses to list a new kind until it has read the objects. It also retries a request that timed out in
    the API server.
    """

    def __init__(self, client: ApiClient, cache: str, seconds: float, patience: float = 0) -> None:
        self._seconds = seconds
        self._patience = patience
        super().__init__(client, cache_file=cache)

    def request(self, *words: Any, **asked: Any) -> Any:  # noqa: ANN401 - the client's own untyped method
        send = partial(super().request, *words, **{"_request_timeout": self._seconds, **asked})
        if asked.get("serialize") is False:  # the response of a pod or a kubelet is returned unchanged
            return send()
        return until(
            partial(_retry_while_busy, send),
            what="the API server",
            timeout=self._patience,
            hint="Run the same command again.",
            interval=REPEAT_SECONDS,
        )


class Cluster:
    """A Kubernetes cluster, accessed by a named context of a kubeconfig or, without a name, by its current one.

    A program that runs in the lab's network may add its own clusters to the lab's kubeconfig and change the current
    context, as `kind create cluster` does.

    Every method raises NotReadyError `api-unreachable` if the API does not answer, `api-busy` if it fails temporarily,
    `webhook-not-ready` if a required webhook does not answer yet, RefusedError if the API rejects the request or is not
    trusted, and MissingError `kubeconfig-unusable` or `disk-full`.
    """

    def __init__(
        self, kubeconfig: Path, limits: Limits = NORMAL, *, context: str | None = None, is_patient: bool = True
    ) -> None:
        self.limits = limits
        self._kubeconfig = kubeconfig
        self._context = context
        self._is_patient = is_patient
        self._cached_client: DynamicClient | None = None
        self._silence: NotReadyError | None = None
        """The error that stopped an impatient client; None while it sends requests."""

    def impatient(self) -> Cluster:
        """Return a client for a quick check of the same cluster: it stops after the first unanswered request."""
        return Cluster(self._kubeconfig, self.limits, context=self._context, is_patient=False)

    def is_up(self) -> None:
        """Check that the API server is ready. Raises NotReadyError if it is not.

        Raises RefusedError `api-not-trusted` for a wrong certificate, which waiting does not fix.
        """
        try:
            with self._translate_errors("GET /readyz"):
                self._client().request("get", "/readyz")
        except RefusedError as error:
            if error.id == NOT_TRUSTED:
                raise
            raise NotReadyError(error.message, id="api-not-ready") from error

    def apply(self, manifests: Iterable[Manifest]) -> list[str]:
        """Apply these objects by server-side apply; return the names of those that changed.

        Fields that others set and that these manifests do not contain are kept; fields that others changed are
        restored.
        """
        return [_name(manifest) for manifest in manifests if self._apply(manifest)]

    def accepts(self, manifest: Manifest) -> None:
        """Check by a dry run that the API and its webhooks accept the object."""
        with self._translate_errors(_name(manifest)):
            self._resource(manifest).server_side_apply(
                body=manifest,
                name=manifest["metadata"]["name"],
                namespace=manifest["metadata"].get("namespace"),
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
                dry_run="All",
            )

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return the object, or None if it does not exist."""
        with self._translate_errors(f"{kind} {name}"):
            try:
                resource = self._client().resources.get(api_version=api_version, kind=kind)
                answer = resource.get(name=name, namespace=namespace)
            except (NotFoundError, ResourceNotFoundError):
                return None
        return _plain(answer)

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, selector: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Return the objects of a kind, in one namespace or in all, that match a label and a field selector."""
        with self._translate_errors(f"{kind} list"):
            try:
                resource = self._client().resources.get(api_version=api_version, kind=kind)
                answer = resource.get(namespace=namespace, label_selector=selector, field_selector=fields)
            except (NotFoundError, ResourceNotFoundError):  # the client may have cached a kind that no longer exists
                return []
        items: list[dict[str, Any]] = _plain(answer)["items"] or []
        return items

    def log(self, pod: str, namespace: str, container: str = "", *, previous: bool = False) -> str:
        """Return the last lines of a pod's log; empty if the pod does not exist.

        A pod with several containers needs `container`. `previous` selects the container's previous run.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        asked = {"tailLines": LOG_LINES, "container": container, "previous": "true" if previous else ""}
        with self._translate_errors(f"GET {path}", is_the_apis=False):
            try:
                answer = self._client().request(
                    "get",
                    path,
                    query_params=[(name, value) for name, value in asked.items() if value],
                    serialize=False,
                )
            except NotFoundError:
                return ""
        return bytes(answer.data).decode(errors="replace")

    def get_from_pod(
        self, pod: str, namespace: str, port: int, path: str, *, seconds: float, tls: bool = False
    ) -> tuple[int, str]:
        """GET a pod's path through the API server within `seconds`; return the status and the beginning of the body.

        If the pod does not answer, both come from the API server, and the body names the reason.
        """
        target = f"{'https:' if tls else ''}{pod}:{port}"
        url = f"/api/v1/namespaces/{namespace}/pods/{target}/proxy{path}"
        with self._translate_errors(f"GET {url}", is_the_apis=False):
            try:
                answer = self._client().request("get", url, serialize=False, _request_timeout=seconds)
            except (ApiException, DynamicApiError) as error:
                body = error.body
                text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
                return int(error.status or 0), text[:BEGINNING]
        text = answer.read(BEGINNING).decode(errors="replace")
        answer.close()
        return int(answer.status), text

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> bool:
        """Delete the object; return whether it existed."""
        with self._translate_errors(f"{kind} {name}"):
            try:
                resource = self._client().resources.get(api_version=api_version, kind=kind)
                resource.delete(name=name, namespace=namespace)
            except (NotFoundError, ResourceNotFoundError):
                return False
        return True

    def _apply(self, manifest: Manifest) -> bool:
        metadata = manifest["metadata"]
        before = self.get(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace"))
        with self._translate_errors(_name(manifest)):
            after = self._resource(manifest).server_side_apply(
                body=manifest,
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
            )
        failpoint("apply")
        return before is None or _comparable_content(before) != _comparable_content(_plain(after))

    @contextmanager
    def _translate_errors(self, what: str, *, is_the_apis: bool = True) -> Iterator[None]:
        """Translate the client's exceptions into LabErrors.

        Without `is_the_apis`, the response comes from a pod or a kubelet, whose silence is not the API's.
        """
        if self._silence:
            raise self._silence
        try:
            yield
        except (ApiException, DynamicApiError) as error:
            message = _message(error)
            if UNTRUSTED in message:
                raise RefusedError(
                    f"{what}: the certificate of the lab's API server is not trusted: {message}",
                    id=NOT_TRUSTED,
                    hint="Check this machine's clock, and that the keys in the lab's `pki` folder are the lab's own. "
                    "If they are not, run `labctl destroy`, then `labctl up`. For an expired certificate, `labctl trace` "
                    "shows how to renew it.",
                ) from error
            if any(sign in message for sign in UNREADY_WEBHOOK):
                raise NotReadyError(f"{what}: {message}", id="webhook-not-ready") from error
            if (error.status or 0) >= FAILED:
                raise NotReadyError(
                    f"the API server could not answer {what}: {message}", id=BUSY, hint="Run the same command again."
                ) from error
            raise RefusedError(f"Kubernetes refused {what}: {message}", id="kubernetes-refused") from error
        except ResourceNotFoundError as error:
            raise NotReadyError(f"{what}: the API does not know this kind (yet)", id="kind-unknown") from error
        except HTTPError as error:
            silence = NotReadyError(
                f"the API server does not answer: {_reason(error)}",
                id="api-unreachable",
                hint="Run `labctl status` to see what is running, or `labctl resume` to start a halted lab.",
            )
            self._silence = silence if is_the_apis and not self._is_patient else None
            raise silence from error

    def _resource(self, manifest: Manifest) -> Any:  # noqa: ANN401 - the client's own untyped object
        return self._client().resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])

    def _client(self) -> DynamicClient:
        if self._cached_client is None:
            logging.getLogger().addHandler(_NOWHERE)
            # The default cache file is world-readable and keyed only by the URL, which all labs share.
            seconds = self.limits.api_answer if self._is_patient else self.limits.api_glance
            cache, patience = self._kubeconfig.with_name("discovery.json"), seconds if self._is_patient else 0
            self._cached_client = _Limited(self._api(), str(cache), seconds, patience)
        return self._cached_client

    def _api(self) -> ApiClient:
        settings, folder = Configuration(), self._kubeconfig.parent
        # The client writes keys to temporary files. If it is killed, they are left where `destroy` removes them.
        place = str(folder) if os.access(folder, os.W_OK) else None
        try:
            paths.content(self._kubeconfig)  # the client itself would block on a FIFO
            config.load_kube_config(str(self._kubeconfig), self._context, settings, temp_file_path=place)
        except (config.ConfigException, OSError, YAMLError, *MALFORMED_ERRORS) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise MissingError(
                    f"the Kubernetes client cannot write its files in {folder}: {error.strerror}",
                    id="disk-full",
                    hint="Free disk space there (`df -h` shows which disk is full), and run the same command again.",
                ) from error
            raise MissingError(
                f"{self._kubeconfig} is not a usable kubeconfig: {error}",
                id="kubeconfig-unusable",
                hint="Run `labctl up` to write it again.",
            ) from error
        settings.proxy = None  # lab addresses are local, so HTTPS_PROXY does not apply
        settings.retries = False  # the caller retries
        return ApiClient(settings)


def _retry_while_busy(send: Callable[[], Any]) -> Any:  # noqa: ANN401 - the client's own untyped object
    try:
        return send()
    except DynamicApiError as error:
        if error.status != TIMED_OUT and "Retry-After" not in (error.headers or {}):
            raise
        return Pending(_message(error), id=BUSY)


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {' '.join(str(error.reason).split())}"


def _reason(error: HTTPError) -> str:
    """Return the reason at the end of a client error, without the names of the client's objects."""
    cause = getattr(error, "reason", None) or error
    message = cause.args[-1] if cause.args else ""  # a timeout's own text is that of its arguments
    return str(message).rpartition(": ")[2].partition(" (")[0] or type(cause).__name__


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _plain(answer: Any) -> dict[str, Any]:  # noqa: ANN401 - the client's own untyped object
    plain: dict[str, Any] = answer.to_dict()
    return plain


def _comparable_content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without its status and the API server's bookkeeping.

    This excludes resourceVersion, which the first apply to a foreign object changes by recording the owners.
    """
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in BOOKKEEPING}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
