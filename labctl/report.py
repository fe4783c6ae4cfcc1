"""What `labctl status` and `labctl trace` found, in the form scripts read it."""

from __future__ import annotations

from typing import Any, TypedDict


class NodeReport(TypedDict):
    """One node that the lab should have."""

    name: str
    role: str
    address: str
    ready: bool


class AddressReport(TypedDict):
    """An address of the pool that a Service holds; `node` is the one that announces it, if any does."""

    address: str
    service: str
    pool: str
    node: str | None


class IngressReport(TypedDict):
    """The ingress controller behind its LoadBalancer Service."""

    controller: str
    namespace: str
    service: str
    address: str | None
    ready: bool


class AppReport(TypedDict):
    """One app and the HTTP status it answers with; None if it does not answer."""

    name: str
    url: str
    http: int | None


class StatusReport(TypedDict):
    """The whole lab; `ok` when there is no problem."""

    lab: str
    ok: bool
    nodes: list[NodeReport]
    addresses: list[AddressReport]
    ingress: IngressReport
    apps: list[AppReport]
    problems: list[str]


class HopReport(TypedDict):
    """One hop; `state` is ok, broken or not reached, and cause and fix are empty but where it is broken."""

    hop: str
    state: str
    cause: str
    fix: str
    evidence: dict[str, Any]


class TraceReport(TypedDict):
    """A request, from the name to the answer."""

    hostname: str
    ok: bool
    hops: list[HopReport]
