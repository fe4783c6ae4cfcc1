"""The hops of a request. Each looks at one, returns its evidence, or says what is broken there and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from labctl import observe
from labctl.errors import NotReadyError
from labctl.ingress import IngressController
from labctl.kube import Cluster
from labctl.lab import Lab
from labctl.trace import backend, metallb
from labctl.trace.broken import BrokenHopError, Evidence
from labctl.trace.client import HOSTS, Client, HostsLine
from labctl.wait import Pending
from labctl.web import Answer

__all__ = ["BrokenHopError", "Evidence", "Hop", "Trail", "address", "name", "node", "pod", "response", "rule"]

UP = "`labctl up` puts it right."
SYNC = "`labctl hosts sync` writes it."
MILLI = 1000


@dataclass(frozen=True, slots=True)
class Trail:
    """A request to be followed, the doors to those who know of it, and what the hops before have seen."""

    lab: Lab
    controller: IngressController
    cluster: Cluster
    client: Client
    hostname: str
    seen: dict[str, Evidence] = field(default_factory=dict)


Hop = Callable[[Trail], Evidence]


def name(trail: Trail) -> Evidence:
    """The name leads to the ingress controller's address, and this line of this file, or the resolver, says so."""
    found, seconds = trail.client.resolve(trail.hostname)
    wanted = _controllers_address(trail)
    if not found:
        raise BrokenHopError(
            f"{trail.hostname} has no address: {HOSTS} does not name it, and no other resolver knows it", SYNC
        )
    line = trail.client.hosts_line(trail.hostname, found[0])
    source = (
        f"{HOSTS}, line {line.number}: {line.text}"
        if line
        else "the system's resolver; no line of the hosts file says so"
    )
    evidence: Evidence = {"address": str(found[0]), "source": source, "milliseconds": round(seconds * MILLI, 1)}
    if wanted is not None and found[0] != wanted:
        raise _misled(trail, found[0], wanted, line, evidence)
    return evidence


def address(trail: Trail) -> Evidence:
    """A Service owns the address, out of a pool that MetalLB has."""
    owned = IPv4Address(trail.seen["name"]["address"])
    services = trail.cluster.list("v1", "Service")
    owner = next((service for service in services if observe.address_of(service) == owned), None)
    pools = metallb.pools(trail.cluster)
    if owner is None or _full_name(owner) != f"{trail.controller.namespace}/{trail.controller.service}":
        raise metallb.unowned(trail.cluster, trail.controller, trail.lab, pools)
    pool = next((each for each, ranges in pools.items() if any(owned in found for found in ranges)), None)
    evidence: Evidence = {"address": str(owned), "service": _full_name(owner), "pool": pool}
    if pool is None:
        has = ", ".join(f"{each} {' '.join(map(str, ranges))}" for each, ranges in pools.items())
        raise BrokenHopError(
            f"no pool of MetalLB contains {owned}" + (f": it has {has}" if has else ": it has no IPAddressPool at all"),
            UP,
            evidence,
        )
    return evidence


def node(trail: Trail) -> Evidence:
    """A node answers ARP for the address with a MAC of its own: the one that MetalLB names, if it has a record of it."""
    asked, service = IPv4Address(trail.seen["address"]["address"]), trail.seen["address"]["service"]
    route = trail.client.route(asked)
    if route is None or route.gateway:
        way = f"leads to {route.gateway}" if route else "is missing"
        raise BrokenHopError(f"the route from this machine to {asked} {way}: the lab's network is not there", UP)
    heard = trail.client.ask_arp([asked, *(each.address for each in trail.lab.nodes)], route)
    owners = {mac: each.name for each in trail.lab.nodes for mac in heard[each.address]}
    announced = observe.announcing_nodes(trail.cluster).get(tuple(service.split("/")))
    macs = sorted(heard[asked])
    evidence: Evidence = {
        "announced_by": announced,
        "answers_arp": [{"mac": mac, "node": owners.get(mac)} for mac in macs],
        "route": f"dev {route.device} src {route.source}",
    }
    if foreign := [mac for mac in macs if mac not in owners]:
        raise BrokenHopError(
            f"{', '.join(foreign)} answers ARP for {asked}, and is no node of the lab: something else has this address",
            f"Find it by its MAC (`ip neigh`) and give it another address, or choose another pool than {trail.lab.pool}.",
            evidence,
        )
    if not macs:
        raise metallb.unannounced(trail.cluster, trail.controller, asked, evidence)
    if announced is not None and announced not in {owners[mac] for mac in macs}:
        answering = ", ".join(owners[mac] for mac in macs)
        raise BrokenHopError(
            f"MetalLB says that {announced} announces {asked}, and {answering} answers ARP for it",
            "Try again: the address may be moving. If it stays so, look at the speakers: "
            "`labctl exec -- kubectl -n metallb-system logs ds/speaker`.",
            evidence,
        )
    return evidence


def rule(trail: Trail) -> Evidence:
    """A pod of the ingress controller is ready, and a rule of an Ingress of its class matches."""
    controller = trail.controller
    pods = backend.controller_pods(trail.cluster, controller)
    ready = [each for each in pods if backend.is_ready(each)]
    if not ready:
        reasons = "; ".join(filter(None, map(backend.why_not_ready, pods))) or "there is none"
        raise BrokenHopError(f"no pod of the ingress controller {controller.name} is ready: {reasons}", UP)
    matching = backend.match(trail.cluster, controller, trail.hostname)
    return {**matching, "controller_pods": [backend.placed(each) for each in ready]}


def pod(trail: Trail) -> Evidence:
    """The rule's Service has the port, and pods that are ready behind it."""
    return backend.endpoints(trail.cluster, trail.seen["rule"])


def response(trail: Trail) -> Evidence:
    """The app answered a request by name just now; the logs say which of the controller's pods took it, and which pod."""
    asked = IPv4Address(trail.seen["name"]["address"])
    exchange = trail.client.fetch(trail.hostname, asked)
    namespace, candidates = trail.seen["pod"]["namespace"], trail.seen["pod"]["pods"]
    answered = exchange.pod or backend.logged(trail.cluster, namespace, candidates, exchange.mark)
    controllers = trail.seen["rule"]["controller_pods"]
    timings = {part: None if each is None else round(each * MILLI, 1) for part, each in exchange.seconds.items()}
    evidence: Evidence = {
        "status": exchange.status,
        "taken_by": backend.logged(trail.cluster, trail.controller.namespace, controllers, exchange.mark),
        "answered_by": answered,
        "milliseconds": {"name": trail.seen["name"]["milliseconds"], **timings},
        "way_back": f"{asked}:80 to {exchange.client}",
    }
    if exchange.status is None:
        raise BrokenHopError(
            f"no answer from {asked}: {exchange.failure}",
            f"`labctl exec -- kubectl -n {trail.controller.namespace} logs deploy/{trail.controller.deployment}` says more.",
            evidence,
        )
    if not Answer(exchange.status).is_good:
        raise backend.failed(trail.controller, exchange.status, namespace, answered, evidence)
    return evidence


def _controllers_address(trail: Trail) -> IPv4Address | None:
    """The address that names should lead to; None where nobody can say now, which the next hop tells of."""
    try:
        found = observe.load_balancer_address(trail.cluster, trail.controller.namespace, trail.controller.service)
    except NotReadyError:
        return None
    return None if isinstance(found, Pending) else found


def _misled(
    trail: Trail, found: IPv4Address, wanted: IPv4Address, line: HostsLine | None, evidence: Evidence
) -> BrokenHopError:
    right = f"the ingress controller has {wanted}"
    if line is None:
        return BrokenHopError(f"the system's resolver says that {trail.hostname} is {found}; {right}", SYNC, evidence)
    if line.block == trail.lab.name:
        return BrokenHopError(f"{HOSTS}, line {line.number}, in labctl's block, says {found}; {right}", SYNC, evidence)
    return BrokenHopError(
        f"{HOSTS}, line {line.number}, says {found} before labctl's own line comes; {right}",
        f"Delete that line from {HOSTS}, or the name from it: {line.text}",
        evidence,
    )


def _full_name(found: Mapping[str, Any]) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
