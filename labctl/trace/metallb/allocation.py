"""What MetalLB uses to choose an address for a Service, and what prevents it from allocating one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, summarize_address_range
from typing import TYPE_CHECKING, Any

from labctl.cluster import state
from labctl.model.lab import Lab
from labctl.trace.metallb import metallb, pools, requested
from labctl.trace.metallb.pools import Address, Pool
from labctl.trace.metallb.requested import Requested
from labctl.trace.problem import Evidence, ProblemError, kubectl, labctl
from labctl.trace.rules.rules import full_name

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A Service, and everything that MetalLB uses to choose an address for it."""

    lab: Lab
    service: Object
    pools: Sequence[Pool]
    holders: Mapping[Address, Sequence[Object]]
    """The other Services that have each address."""
    controller: metallb.Controller
    requested: Requested

    @property
    def name(self) -> str:
        """The Service's namespace and name."""
        return full_name(self.service)

    @property
    def no_address_prefix(self) -> str:
        """The beginning of a message about a Service without an address."""
        return f"the Service {self.name} has no address"

    @property
    def own_pool(self) -> Pool | None:
        """The pool that labctl created."""
        return next((each for each in self.pools if each.name == self.lab.name), None)

    @property
    def own_networks(self) -> tuple[IPv4Network, ...]:
        """The networks of labctl's own pool, as configured."""
        return tuple(summarize_address_range(self.lab.pool.first, self.lab.pool.last))

    def up_command(self) -> tuple[str, ...]:
        """Return the command that restores labctl's own objects."""
        return (labctl(self.lab.name, "up"),)

    def recreate_commands(self) -> tuple[str, ...]:
        """Return the commands that delete the Service and recreate it as labctl does."""
        metadata = self.service["metadata"]
        words = ("-n", metadata["namespace"], "delete", "service", metadata["name"])
        return (kubectl(self.lab.name, *words), *self.up_command())

    def remove_request_commands(self) -> tuple[str, ...]:
        """Return the commands that remove what the Service requests."""
        return requested.remove_request_commands(self.lab.name, self.service, self.requested)

    def is_free(self, pool: Pool) -> bool:
        """Return whether the pool has an address for the Service, alone or shared."""
        if pool.free(self.holders) > 0:
            return True
        shared = (holders for address, holders in self.holders.items() if pool.has(address))
        return any(not requested.sharing_obstacle(self.service, holders) for holders in shared)


def read_case(cluster: Cluster, lab: Lab, service: Object, services: Sequence[Object]) -> Case:
    """Read everything that MetalLB uses to choose an address."""
    holders: dict[Address, list[Object]] = {}
    for other in services:
        spec = other["spec"]
        is_metallbs = spec.get("type") == state.LOAD_BALANCER and not spec.get("loadBalancerClass")
        if is_metallbs and full_name(other) != full_name(service):
            for address in state.addresses_of(other):
                holders.setdefault(address, []).append(other)
    return Case(lab, service, pools.read(cluster), holders, metallb.controller(cluster), requested.read(service))


def evidence(case: Case) -> Evidence:
    """Return the Service's request and the pools as evidence."""
    request, taken = case.requested, {*case.holders, *state.addresses_of(case.service)}
    return {
        "service": case.name,
        "requested": {
            "addresses": [str(each) for each in request.addresses],
            "pool": request.pool or None,
            "by": request.by,
        }
        if request.by
        else None,
        "pools": [each.evidence(case.service, taken) for each in case.pools],
    }


def own_pool_problem(case: Case, effect: str = "") -> ProblemError | None:
    """Return how the lab's own pool differs from the one that labctl created; `labctl up` restores it."""
    own, silence = case.own_pool, effect or case.no_address_prefix
    if own is None:
        return _overlapped(case) or ProblemError(
            "pool-missing", f"{silence}: the lab's own pool {case.lab.name} is missing"
        )
    if not own.auto_assign:
        text = f"{silence}: the pool {own.name} has `autoAssign: false`, so it only serves Services that request it"
        return ProblemError("auto-assign-off", text)
    if not own.serves(case.service):
        return ProblemError(
            "pool-excludes-service", f"{silence}: serviceAllocation of the pool {own.name} excludes the Service"
        )
    if own.avoids_buggy or not pools.cover_same_addresses(own.networks, case.own_networks):
        ranges = " ".join(own.ranges)
        text = f"{silence}: the pool {own.name} was changed from {case.lab.pool} to {ranges}"
        return ProblemError("pool-differs", text + (" with `avoidBuggyIPs`" if own.avoids_buggy else ""))
    return None


def class_problem(case: Case, effect: str = "") -> ProblemError | None:
    """Return why MetalLB ignores the Service."""
    has, wanted = case.service["spec"].get("loadBalancerClass"), case.controller.load_balancer_class
    effect = effect or case.no_address_prefix
    if has == wanted:
        return None
    if has is None:
        text = f"{effect}: MetalLB's controller only serves Services of the class {wanted} (--lb-class)"
        return ProblemError("load-balancer-class-other", text, commands=case.up_command())
    return ProblemError(
        "load-balancer-class-other",
        f"{effect}: the class of the Service {case.name} is {has}, which MetalLB does not serve",
        fix="The class of a Service cannot be changed. Delete the Service, then run `labctl up` to recreate it.",
        commands=case.recreate_commands(),
    )


def _overlapped(case: Case) -> ProblemError | None:
    """Return which pool overlaps the lab's own, so that `labctl up` cannot create it."""
    for each in case.pools:
        if pools.have_common_address(each.networks, case.own_networks):
            text = (
                f"the lab's own pool {case.lab.name} is missing, and the pool {each.name} has addresses of {case.lab.pool}: "
                "MetalLB does not allow pools to overlap"
            )
            return with_ranges(
                case, each, pools.remaining_ranges(each.networks, case.own_networks), "pool-overlapped", text
            )
    return None


def with_ranges(case: Case, pool: Pool, left: Sequence[str], cause: str, text: str) -> ProblemError:
    """Return a problem with a pool. The fix reduces it to these ranges, or deletes it if there are none.

    `labctl up` restores the lab's own pool.
    """
    if pool.name == case.lab.name:
        return ProblemError(cause, text)
    what = ("-n", metallb.NAMESPACE, "ipaddresspool", pool.name)
    patch = json.dumps({"spec": {"addresses": list(left)}})
    line = ("patch", *what, "--type=merge", "-p", patch) if left else ("delete", *what)
    does = f"Reduce the pool {pool.name} to {', '.join(left)}" if left else f"Delete the pool {pool.name}"
    return ProblemError(
        cause,
        text,
        fix=f"{does}, then run `labctl up`.",
        commands=(kubectl(case.lab.name, *line), *case.up_command()),
    )
