"""Find why the ingress controller's Service has no address, in the order in which MetalLB decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from labctl.cluster import state
from labctl.model.lab import Lab
from labctl.render.ingress import IngressController
from labctl.trace.metallb import metallb, pools, requested
from labctl.trace.metallb.allocation import (
    Case,
    Object,
    class_problem,
    evidence,
    own_pool_problem,
    read_case,
    with_ranges,
)
from labctl.trace.metallb.pools import Pool
from labctl.trace.problem import Evidence, ProblemError, kubectl
from labctl.trace.rules.rules import full_name

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

REMOVE_REQUEST = "Remove the request from the Service: MetalLB then allocates a free address."
NOTHING: Evidence = {"address": None, "pool": None, "shared_with": [], "event": None}
NAMED = 3
"""The maximum number of Services that the message about an exhausted pool names."""


def without_address(cluster: Cluster, controller: IngressController, lab: Lab) -> ProblemError:
    """Return why the ingress controller's Service has no address."""
    services = cluster.find("v1", "Service")
    name = f"{controller.namespace}/{controller.service}"
    service = next((each for each in services if full_name(each) == name), None)
    if service is None:
        return _missing(read_case(cluster, lab, _recreated(controller), services))
    return explain(cluster, read_case(cluster, lab, service, services))


def explain(cluster: Cluster, case: Case) -> ProblemError:
    """Return why a Service has no address."""
    changed = max((metallb.last_change_time([case.service]), *(each.changed for each in case.pools)))
    event = metallb.warning(cluster, case.service, changed)
    problem = next(filter(None, (check(case) for check in CHECKS)), None) or _unexplained(case, event)
    if problem.cause == "pool-missing" and not case.pools and cluster.get(*metallb.KIND) is None:
        problem = ProblemError(
            "metallb-missing", f"{case.no_address_prefix}: the CustomResourceDefinition IPAddressPool is missing"
        )
    problem.evidence |= evidence(case) | NOTHING | {"event": event}
    return problem


def _recreated(controller: IngressController) -> Object:
    """Return the Service that `labctl up` creates, reduced to the fields that are read here."""
    metadata = {"namespace": controller.namespace, "name": controller.service}
    return {"metadata": metadata, "spec": {"type": state.LOAD_BALANCER}}


def _missing(case: Case) -> ProblemError:
    """Return the problem that the Service is missing, and what would prevent a new one from getting an address."""
    text, known = f"there is no Service {case.name}", evidence(case) | NOTHING
    further = next(filter(None, (check(case) for check in CHECKS)), None)
    if further is None:
        return ProblemError("service-missing", text, known)
    text += f"; once it is recreated, {further.text}"
    return ProblemError("service-missing", text, known, fix=further.fix, commands=further.commands or None)


def _type(case: Case) -> ProblemError | None:
    kind = case.service["spec"].get("type", "ClusterIP")
    if kind == state.LOAD_BALANCER:
        return None
    text = f"{case.no_address_prefix}: its type is {kind}"
    if not requested.is_headless(case.service):
        return ProblemError("service-not-a-load-balancer", text)
    return ProblemError(
        "service-not-a-load-balancer",
        f"{text}, and it is headless",
        fix="A headless Service cannot become a LoadBalancer. Delete it, then run `labctl up` to recreate it.",
        commands=case.recreate_commands(),
    )


def _controller(case: Case) -> ProblemError | None:
    if not case.controller.not_ready_reason:
        return None
    cause = "metallb-controller-not-ready" if case.controller.is_there else "metallb-missing"
    return ProblemError(
        cause,
        f"{case.no_address_prefix}, and MetalLB's controller cannot allocate one: {case.controller.not_ready_reason}",
    )


def _no_pool(case: Case) -> ProblemError | None:
    if case.pools:
        return None
    return ProblemError("pool-missing", f"{case.no_address_prefix}: MetalLB has no IPAddressPool")


def _invalid(case: Case) -> ProblemError | None:
    """Return which pool MetalLB rejects: it then keeps using the pools that it had before."""
    stale = f"{case.no_address_prefix}: MetalLB ignores all changes to its pools"
    for each in case.pools:
        if each.unreadable or not each.networks:
            wrong = f"cannot read {', '.join(each.unreadable)}" if each.unreadable else "finds no addresses"
            good = [entry for entry in each.ranges if entry not in each.unreadable]
            return with_ranges(case, each, good, "pool-invalid", f"{stale}: it {wrong} in the pool {each.name}")
    if pair := pools.overlap(case.pools):
        one, other = sorted(pair, key=lambda each: each.name == case.lab.name)
        left = pools.remaining_ranges(one.networks, other.networks)
        text = f"{stale}: the pools {one.name} and {other.name} overlap"
        return with_ranges(case, one, left, "pool-invalid", text)
    return None


def _unreadable(case: Case) -> ProblemError | None:
    request = case.requested
    if not request.unreadable:
        return None
    text = f"{case.no_address_prefix}: its request in {request.by} is not valid: {request.unreadable}"
    return ProblemError("requested-address-invalid", text, fix=REMOVE_REQUEST, commands=case.remove_request_commands())


def _requested(case: Case) -> ProblemError | None:
    request = case.requested
    if not request.addresses:
        return None
    says = f"{case.no_address_prefix}: it requests {', '.join(map(str, request.addresses))} in {request.by}"
    pool = next((each for each in case.pools if all(map(each.has, request.addresses))), None)
    if pool is None and all(isinstance(each, IPv4Address) and each in case.lab.pool for each in request.addresses):
        return own_pool_problem(case)
    if pool is None or request.pool not in {"", pool.name}:
        where = f"is in the pool {pool.name}, but it requests the pool {request.pool}" if pool else "is in no pool"
        text = f"{says}, which {where}"
        return ProblemError(
            "requested-address-not-in-pool", text, fix=REMOVE_REQUEST, commands=case.remove_request_commands()
        )
    return _excluded(case, pool, says) or _in_use(case, says)


def _in_use(case: Case, says: str) -> ProblemError | None:
    whys = [
        requested.sharing_obstacle(case.service, case.holders.get(address, ())) for address in case.requested.addresses
    ]
    if not any(whys):
        return None
    text = f"{says}, but {next(filter(None, whys))}"
    return ProblemError("requested-address-in-use", text, fix=REMOVE_REQUEST, commands=case.remove_request_commands())


def _requested_pool(case: Case) -> ProblemError | None:
    request = case.requested
    if request.addresses or not request.pool:
        return None
    says = f"{case.no_address_prefix}: it requests the pool {request.pool} in {request.by}"
    pool = next((each for each in case.pools if each.name == request.pool), None)
    if pool is None:
        text = f"{says}, which does not exist"
        missing = ProblemError(
            "requested-pool-missing", text, fix=REMOVE_REQUEST, commands=case.remove_request_commands()
        )
        return own_pool_problem(case) if request.pool == case.lab.name else missing
    return _excluded(case, pool, says) or (None if case.is_free(pool) else _full(case, pool, says))


def _full(case: Case, pool: Pool, says: str) -> ProblemError:
    """Return the problem that the pool that the Service requests is exhausted."""
    others = [each for each in case.pools if each.serves(case.service) and case.is_free(each)]
    if others:
        text = f"{says}, which is exhausted; the pool {others[0].name} has free addresses"
        return ProblemError("pool-exhausted", text, fix=REMOVE_REQUEST, commands=case.remove_request_commands())
    own = own_pool_problem(case) if pool.name == case.lab.name else None
    return own or _exhausted(case, [pool])


def _any_pool(case: Case) -> ProblemError | None:
    if case.requested.addresses or case.requested.pool:
        return None
    serving = [each for each in case.pools if each.serves(case.service)]
    if any(map(case.is_free, serving)):
        return None
    return own_pool_problem(case) or _exhausted(case, serving)


def _exhausted(case: Case, serving: Sequence[Pool]) -> ProblemError:
    names = " and ".join(f"{each.name} ({' '.join(each.ranges)})" for each in serving)
    holders = sorted(
        {
            full_name(service)
            for address, services in case.holders.items()
            if any(each.has(address) for each in serving)
            for service in services
        }
    )
    rest = len(holders) - NAMED
    named = ", ".join(holders[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
    return ProblemError(
        "pool-exhausted",
        f"{case.no_address_prefix}: every address of the pool {names} is allocated, to {named}",
        fix=f"Delete one of these Services, or enlarge the pool {case.lab.pool} in labctl.yaml and run `labctl up`.",
        commands=(),
    )


def _excluded(case: Case, pool: Pool, says: str) -> ProblemError | None:
    if pool.allows(case.service):
        return None
    text = f"{says}, but serviceAllocation of the pool {pool.name} excludes the Service"
    if pool.name == case.lab.name:
        return ProblemError("pool-excludes-service", text)
    return ProblemError("pool-excludes-service", text, fix=REMOVE_REQUEST, commands=case.remove_request_commands())


def _unexplained(case: Case, event: Evidence | None) -> ProblemError:
    """Return the reason that MetalLB reports, if any; it reports none for a moment after each change."""
    restart = kubectl(case.lab.name, "-n", metallb.NAMESPACE, "rollout", "restart", "deployment", metallb.CONTROLLER)
    fix = "Restart MetalLB's controller, then run `labctl up`."
    if event:
        text = f"{case.no_address_prefix}: MetalLB reports {event['reason']}: {event['message']}"
        return ProblemError("address-refused", text, fix=fix, commands=(restart, *case.up_command()))
    text = f"{case.no_address_prefix}: MetalLB has not allocated one, and reports no reason"
    return ProblemError("address-missing", text, fix=fix, commands=(restart, *case.up_command()))


CHECKS: Sequence[Callable[[Case], ProblemError | None]] = (
    _type,
    class_problem,
    _controller,
    _no_pool,
    _invalid,
    _unreadable,
    _requested,
    _requested_pool,
    _any_pool,
)
"""The checks, in MetalLB's order. A Service that requests an address or a pool gets that or no address."""
