"""The hop to the address: who owns it."""

from __future__ import annotations

from labctl import observe
from labctl.trace import metallb
from labctl.trace.problem import Evidence, ProblemError
from labctl.trace.rules import full_name
from labctl.trace.trail import Trail


def address(trail: Trail) -> Evidence:
    """A Service owns the address, out of a pool that MetalLB has."""
    controller = trail.controller
    services = trail.cluster.list("v1", "Service")
    pools = metallb.pools(trail.cluster)
    if trail.controllers_address() is None:
        raise metallb.unowned(trail.cluster, controller, trail.lab, pools)
    owned = trail.address
    owner = next((service for service in services if observe.address_of(service) == owned), None)
    if owner is None or full_name(owner) != f"{controller.namespace}/{controller.service}":
        has = full_name(owner) if owner else "no Service"
        raise ProblemError("address-of-another-service", f"{owned} is the address of {has}")
    pool = next((each for each, ranges in pools.items() if any(owned in found for found in ranges)), None)
    evidence: Evidence = {"address": str(owned), "service": full_name(owner), "pool": pool}
    if not pools:
        raise ProblemError("pool-missing", f"MetalLB has no IPAddressPool: {owned} is out of none", evidence)
    if pool is None:
        has = ", ".join(f"{each} {' '.join(map(str, ranges))}" for each, ranges in pools.items())
        raise ProblemError("address-not-in-pool", f"no pool of MetalLB contains {owned}: it has {has}", evidence)
    return evidence
