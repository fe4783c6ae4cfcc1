"""The second hop: check that the ingress controller's Service has the address."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from labctl.cluster import state
from labctl.model.reports import HopState
from labctl.trace.address import no_address
from labctl.trace.metallb import allocation, requested
from labctl.trace.metallb.allocation import Case
from labctl.trace.problem import BROKEN, WARNING, Evidence, ProblemError, kubectl, labctl
from labctl.trace.rules.rules import full_name
from labctl.trace.trail import Trail

WRITER = "controller"
"""The field manager of MetalLB's writes to a Service's status."""


def address(trail: Trail) -> Evidence:
    """Check that the ingress controller's Service has the address, and that it is from one of MetalLB's pools."""
    controller, lab = trail.controller, trail.lab
    services = trail.cluster.find("v1", "Service")
    name = f"{controller.namespace}/{controller.service}"
    service = next((each for each in services if full_name(each) == name), None)
    if service is None or not _is_owner(service):
        raise no_address.without_address(trail.cluster, controller, lab)
    owned = trail.address
    others = [each for each in services if full_name(each) != name and _claims(each, owned)]
    if owned not in state.addresses_of(service):
        has = ", ".join(map(full_name, others)) or "no Service"
        raise ProblemError("address-of-another-service", f"{owned} is the address of {has}")
    case = allocation.read_case(trail.cluster, lab, service, services)
    evidence = _evidence(case, owned, others)
    problems = filter(
        None, (_claimed_by_others(case, owned, others), _not_in_pool(case, owned), _not_reallocatable(case))
    )
    for problem in sorted(problems, key=lambda each: each.state == WARNING):
        problem.evidence |= evidence
        raise problem
    return evidence


def _is_owner(service: Mapping[str, Any]) -> bool:
    """Return whether the Service has an address and is of type LoadBalancer."""
    return service["spec"].get("type") == state.LOAD_BALANCER and state.address_of(service) is not None


def _evidence(case: Case, owned: IPv4Address, others: Sequence[Mapping[str, Any]]) -> Evidence:
    pool = next((each.name for each in case.pools if each.has(owned)), None)
    return allocation.evidence(case) | {
        "address": str(owned),
        "pool": pool,
        "shared_with": [full_name(each) for each in others],
        "event": None,
    }


def _claims(service: Mapping[str, Any], address: IPv4Address) -> bool:
    """Return whether a Service has the address in its status or among its external addresses."""
    return address in state.addresses_of(service) or str(address) in _external(service)


def _external(service: Mapping[str, Any]) -> Sequence[str]:
    return service["spec"].get("externalIPs") or ()


def _claimed_by_others(case: Case, owned: IPv4Address, others: Sequence[Mapping[str, Any]]) -> ProblemError | None:
    """Return a problem if another Service has the same address and port: nodes can route to only one."""
    for other in others:
        metadata = other["metadata"]
        if owned in state.addresses_of(other):
            why, place = requested.sharing_obstacle(case.service, [other]), "status"
            fix = "Remove the address from that Service's status, and make sure that nothing writes it again."
            change: tuple[str, ...] = ("--subresource=status", "--type=merge", "-p", '{"status":{"loadBalancer":null}}')
        else:
            why, place = requested.common_ports(case.service, other), "externalIPs"
            fix = "Remove the address from that Service's externalIPs."
            left = [each for each in _external(other) if each != str(owned)]
            change = ("--type=merge", "-p", json.dumps({"spec": {place: left}}, separators=(",", ":")))
        if why:
            what = ("-n", metadata["namespace"], "service", metadata["name"], *change)
            text = f"{owned} is also in the {place} of the Service {full_name(other)}: {why}"
            command = kubectl(case.lab.name, "patch", *what)
            # For externalIPs, kube-proxy routes to one of the two Services, and may choose the other when it restarts.
            state_of_hop: HopState = BROKEN if place == "status" else WARNING
            return ProblemError("address-claimed-twice", text, fix=fix, commands=(command,), state=state_of_hop)
    return None


def _not_in_pool(case: Case, owned: IPv4Address) -> ProblemError | None:
    """Return why no speaker announces the address, or why it is unreachable from the lab's network."""
    if not case.pools:
        return ProblemError("pool-missing", f"MetalLB has no IPAddressPool, so no pool contains {owned}")
    pool = next((each for each in case.pools if each.has(owned)), None)
    if pool is None:
        has = ", ".join(f"{each.name} {' '.join(each.ranges)}" for each in case.pools)
        writer = _writer(case.service)
        by = f", which was written by {writer}" if writer not in {"", WRITER} else ""
        return ProblemError("address-not-in-pool", f"no pool of MetalLB contains {owned}{by}; its pools are {has}")
    if owned in case.lab.network:
        return None
    text = f"{owned}, from the pool {pool.name}, is outside the lab's network {case.lab.network}, so it is unreachable"
    if pool.name == case.lab.name:
        return ProblemError("address-outside-network", text)
    metadata = case.service["metadata"]
    ask = f"{requested.PREFIXES[0]}/{requested.POOL}={case.lab.name}"
    what = ("annotate", "--overwrite", "-n", metadata["namespace"], "service", metadata["name"], ask)
    return ProblemError(
        "address-outside-network",
        text,
        fix=f"Let the Service request an address of the lab's own pool {case.lab.name}, then run `labctl up`.",
        commands=(kubectl(case.lab.name, *what), labctl(case.lab.name, "up")),
    )


def _not_reallocatable(case: Case) -> ProblemError | None:
    """Return what would prevent MetalLB from allocating the address again."""
    if case.controller.not_ready_reason:
        cause = "metallb-controller-not-ready" if case.controller.is_there else "metallb-missing"
        text = f"MetalLB's controller cannot allocate addresses: {case.controller.not_ready_reason}"
        return ProblemError(cause, text, state=WARNING)
    problem = allocation.class_problem(case, "MetalLB does not manage the address") or allocation.own_pool_problem(
        case, "the address is kept only until the Service is recreated"
    )
    if problem:
        problem.state = WARNING
    return problem


def _writer(service: Mapping[str, Any]) -> str:
    """Return who last wrote the Service's status."""
    written = [each for each in service["metadata"].get("managedFields") or () if each.get("subresource") == "status"]
    newest: Mapping[str, Any] = max(written, key=lambda each: str(each.get("time") or ""), default={})
    return str(newest.get("manager", ""))
