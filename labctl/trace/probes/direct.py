"""Send a request to a pod through the API server, bypassing the ingress controller."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from labctl.model.errors import LabError

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

UNREACHED = "error trying to reach service: "
"""The beginning of the API server's message that a pod did not answer."""
REFUSED, UNREACHABLE, TLS, NOT_HTTP, EMPTY, SILENT, ANSWERED, NOT_QUERIED = (
    "refused",
    "unreachable",
    "tls",
    "not HTTP",
    "empty",
    "silent",
    "answered",
    "not asked",
)
KINDS = (
    ("connection refused", REFUSED),
    ("no route to host", UNREACHABLE),
    ("network is unreachable", UNREACHABLE),
    ("malformed HTTP", NOT_HTTP),
    ("unsupported protocol", NOT_HTTP),
    ("EOF", EMPTY),
    ("connection reset", EMPTY),
    ("timeout", SILENT),
    ("deadline exceeded", SILENT),
)
"""The failure for each of Go's error messages about a connection."""
PLAIN_TO_TLS = ("plain HTTP request was sent to HTTPS port", "sent an HTTP request to an HTTPS server")
"""The text of TLS servers' 400 response to a plain HTTP request."""
ENDS_EARLY = {EMPTY, NOT_HTTP}


@dataclass(frozen=True, slots=True)
class PodResponse:
    """A pod's response to the API server, or the API server's error."""

    kind: str
    status: int | None = None
    text: str = ""

    @property
    def is_failure(self) -> bool:
        """Return whether the pod does not serve requests on this port."""
        return self.kind in {REFUSED, UNREACHABLE, TLS, NOT_HTTP, EMPTY, SILENT}


def query_pod(cluster: Cluster, namespace: str, pod: str, port: int, path: str, seconds: float) -> PodResponse:
    """GET a path of a pod, within `seconds`; if it does not speak HTTP, find out whether it speaks TLS."""
    query = partial(_query_pod, cluster, namespace, pod, port, path, seconds)
    word = query(tls=False)
    if word.kind in ENDS_EARLY and query(tls=True).kind == ANSWERED:
        return PodResponse(TLS, None, word.text)
    return word


def is_tls(status: int | None, beginning: str) -> bool:
    """Return whether a response is a TLS server's to a plain HTTP request."""
    return status == HTTPStatus.BAD_REQUEST and any(sign in beginning for sign in PLAIN_TO_TLS)


def _query_pod(
    cluster: Cluster, namespace: str, pod: str, port: int, path: str, seconds: float, *, tls: bool
) -> PodResponse:
    try:
        status, text = cluster.get_from_pod(pod, namespace, port, path, seconds=seconds, tls=tls)
    except LabError as error:
        is_silent = error.id == "api-unreachable" and "timed out" in error.message
        is_the_pods = is_silent and _answers(cluster)
        return PodResponse(SILENT if is_the_pods else NOT_QUERIED, None, error.message)
    if (reason := _reason(text)) is not None:
        return PodResponse(next((kind for sign, kind in KINDS if sign in reason), NOT_QUERIED), None, reason)
    return PodResponse(TLS if is_tls(status, text) else ANSWERED, status)


def _answers(cluster: Cluster) -> bool:
    """Return whether the API server itself answers in time, so that the timeout was the pod's."""
    try:
        cluster.find("v1", "Node")
    except LabError:
        return False
    return True


def _reason(text: str) -> str | None:
    """Return why the API server did not reach a pod; None if the response is the pod's."""
    try:
        message = json.loads(text).get("message", "")
    except (ValueError, AttributeError):
        message = text
    return message.removeprefix(UNREACHED) if str(message).startswith(UNREACHED) else None
