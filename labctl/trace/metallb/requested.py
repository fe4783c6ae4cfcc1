"""What a Service requests from MetalLB: addresses, a pool, or an address shared with other Services."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from labctl.trace.problem import kubectl

Address = IPv4Address | IPv6Address
Object = Mapping[str, Any]
PREFIXES = ("metallb.io", "metallb.universe.tf")
"""Annotation prefixes, current and deprecated. If both are set, the first counts."""
ADDRESSES, POOL, SHARED = "loadBalancerIPs", "address-pool", "allow-shared-ip"
FIELD = "spec.loadBalancerIP"
MOST = 2
"""The maximum number of addresses of a Service: one per family."""


@dataclass(frozen=True, slots=True)
class Requested:
    """What a Service requests from MetalLB."""

    addresses: tuple[Address, ...] = ()
    pool: str = ""
    sharing_key: str = ""
    unreadable: str = ""
    """Why the request is not valid; empty if it is."""
    annotations: tuple[str, ...] = ()
    """The annotations that request an address or a pool."""
    by_field: bool = False
    """Whether a field of the Service requests an address."""

    @property
    def by(self) -> str:
        """The annotations and the field with the request."""
        return " and ".join((*self.annotations, *([FIELD] if self.by_field else [])))


def read(service: Object) -> Requested:
    """Return what the Service requests."""
    annotations: Mapping[str, str] = service["metadata"].get("annotations") or {}
    texts, field = _value(annotations, ADDRESSES), service["spec"].get("loadBalancerIP") or ""
    addresses, unreadable = _addresses(texts.split(",") if texts else [field] if field else [])
    if texts and field:
        unreadable = f"both an annotation and {FIELD} request it"
    return Requested(
        addresses,
        _value(annotations, POOL),
        _value(annotations, SHARED),
        unreadable or _mismatch(service, addresses),
        tuple(key for what in (ADDRESSES, POOL) for key in _keys(what) if key in annotations),
        by_field=bool(field),
    )


def remove_request_commands(lab: str, service: Object, requested: Requested) -> tuple[str, ...]:
    """Return the commands that remove what the Service requests."""
    metadata = service["metadata"]
    what = ("-n", metadata["namespace"], "service", metadata["name"])
    annotate = ("annotate", *what, *(f"{key}-" for key in requested.annotations))
    patch = json.dumps([{"op": "remove", "path": f"/{FIELD.replace('.', '/')}"}])
    return (
        *([kubectl(lab, *annotate)] if requested.annotations else []),
        *([kubectl(lab, "patch", *what, "--type=json", "-p", patch)] if requested.by_field else []),
    )


def is_headless(service: Object) -> bool:
    """Return whether the Service has no cluster IP, which cannot be changed."""
    return bool(service["spec"].get("clusterIP") == "None")


def sharing_obstacle(service: Object, others: Sequence[Object]) -> str:
    """Return why the Service cannot share an address with these others; empty if it can."""
    key = read(service).sharing_key
    for other in others:
        name = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
        theirs = read(other).sharing_key
        if not key and not theirs:
            return f"{name} has it"
        if key != theirs:
            return f"{name} has it, with the sharing key {theirs!r} instead of {key!r}"
        if _backend(service) != _backend(other):
            return f"{name} has it and selects other pods, which externalTrafficPolicy Local does not allow"
        if common := common_ports(service, other):
            return f"{name} has it, with {common}"
    return ""


def common_ports(service: Object, other: Object) -> str:
    """Return, as text, the ports that both Services have; empty if there are none."""
    common = _ports(service) & _ports(other)
    return f"the same port {', '.join(sorted(common))}" if common else ""


def _keys(what: str) -> list[str]:
    return [f"{prefix}/{what}" for prefix in PREFIXES]


def _value(annotations: Mapping[str, str], what: str) -> str:
    return next((annotations[key] for key in _keys(what) if key in annotations), "")


def _addresses(texts: Sequence[str]) -> tuple[tuple[Address, ...], str]:
    try:
        addresses = tuple(ip_address(text.strip()) for text in texts)
    except ValueError as error:
        return (), str(error)
    versions = [each.version for each in addresses]
    if len(addresses) > MOST or len(set(versions)) < len(versions):
        return addresses, "a Service has at most one address of each family"
    return addresses, ""


def _mismatch(service: Object, addresses: Sequence[Address]) -> str:
    """Return why the address families do not match the Service's; empty if they do."""
    has = () if is_headless(service) else service["spec"].get("clusterIPs") or ()
    own = {ip_address(each).version for each in has or ["0.0.0.0"]}  # noqa: S104 - IPv4, like the lab
    wanted = {each.version for each in addresses}
    if not wanted or wanted == own:
        return ""
    return f"the Service has {' and '.join(f'IPv{version}' for version in sorted(own))}"


def _backend(service: Object) -> object:
    spec = service["spec"]
    return spec.get("selector") if spec.get("externalTrafficPolicy") == "Local" else None


def _ports(service: Object) -> set[str]:
    return {f"{each['port']}/{each.get('protocol', 'TCP')}" for each in service["spec"].get("ports") or ()}
