"""Find which pod answered a request, from the ingress controller's log, the response, or the app's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from labctl.host.http_probe import HTTP
from labctl.trace import backend
from labctl.trace.name.name import MILLI
from labctl.trace.probes.access_log import LogSearch, Record
from labctl.trace.probes.exchange import Exchange
from labctl.trace.problem import Evidence
from labctl.trace.trail import Trail

GATEWAY = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
"""A controller's own responses if its backend did not answer."""
MAYBE_OWN = {*GATEWAY, HTTPStatus.INTERNAL_SERVER_ERROR}


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request: its response, the controller's log record, and the pod that answered, if known."""

    exchange: Exchange
    record: Record | None
    pod: str | None
    """The pod's name, or the address of an endpoint without a name."""
    is_complete: bool = True
    """Whether all logs of the controller could be read."""

    @property
    def status(self) -> int:
        """The response's status; 0 without a response."""
        return self.exchange.status or 0

    @property
    def is_the_apps(self) -> bool:
        """Return whether the app answered. A 502 or 504 counts as the controller's unless a pod identified itself."""
        if self.exchange.pod or self.record is None:
            return self.pod is not None
        return bool(self.record.server) and not self.is_maybe_own

    @property
    def is_maybe_own(self) -> bool:
        """Return whether the response is the controller's own, about a pod that did not answer."""
        if self.exchange.pod or self.status not in MAYBE_OWN:
            return False
        phrase = HTTPStatus(self.status).phrase
        return self.status in GATEWAY or self.exchange.body.beginning.decode(errors="replace") == phrase

    @property
    def upstream_address(self) -> str:
        """The backend address and port that the controller tried last, if known."""
        return self.record.upstream_address if self.record else ""


def possible_endpoints(trail: Trail) -> list[Evidence]:
    """Return the endpoints that may answer, including those of a canary."""
    pods = trail.evidence["pod"]
    sides: Sequence[Mapping[str, Any]] = pods.get("sides") or [pods]
    return [endpoint for side in sides for endpoint in side["pods"]]


def label(endpoint: Evidence) -> str:
    """Return a pod's name, or the address of an endpoint without a pod."""
    return str(endpoint["pod"] or endpoint["address"])


def identified(trail: Trail, exchange: Exchange, search: LogSearch) -> AnsweredRequest:
    """Return which pod answered a request, according to the controller's log and the response."""
    record = search.records.get(exchange.mark)
    endpoints = possible_endpoints(trail)
    pod = None
    if record and record.server:
        pod = next((label(each) for each in endpoints if each["address"] == record.server), None)
        if pod is None and len(endpoints) == 1 and record.server == trail.evidence["pod"].get("cluster_ip"):
            pod = label(endpoints[0])
    if pod is None and exchange.pod in {each["pod"] for each in endpoints}:
        pod = exchange.pod
    return AnsweredRequest(exchange, record, pod, search.is_complete)


def first_answer(trail: Trail) -> AnsweredRequest:
    """Return which pod answered the request that the earlier hops observed."""
    exchange, search = trail.request()
    answered = identified(trail, exchange, search)
    namespace = trail.evidence["pod"]["namespace"]
    if answered.pod or exchange.status is None:
        return answered
    if exchange.pod and trail.cluster.get("v1", "Pod", exchange.pod, namespace):
        return AnsweredRequest(exchange, answered.record, exchange.pod, search.is_complete)
    if answered.record and (not answered.record.server or answered.is_maybe_own):
        return answered
    pod = backend.pod_that_logged(trail.cluster, namespace, possible_endpoints(trail), exchange.mark)
    return AnsweredRequest(exchange, answered.record, pod, search.is_complete)


def request_evidence(trail: Trail, answered: AnsweredRequest) -> Evidence:
    """Return the evidence of the request itself."""
    exchange, record = answered.exchange, answered.record
    timings = {part: None if each is None else round(each * MILLI, 1) for part, each in exchange.seconds.items()}
    body = exchange.body
    return {
        "path": trail.path,
        "status": exchange.status,
        "taken_by": record.controller_pod if record else None,
        "asked": record.upstream_address or None if record else None,
        "answered_by": answered.pod,
        "body": {"state": body.state, "bytes": body.received, "expected": body.expected},
        "redirect": None,
        "pods": [],
        "milliseconds": {"name": trail.evidence["name"].get("milliseconds"), **timings},
        "way_back": f"{trail.address}:{HTTP} to {exchange.client}",
    }
