"""The hop to the node: who answers for the address on the network of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from labctl import observe
from labctl.neighbours import Route
from labctl.trace import announcing, metallb
from labctl.trace.problem import UNKNOWN, Evidence, ProblemError, kubectl
from labctl.trace.trail import Trail


def node(trail: Trail) -> Evidence:
    """A node answers ARP for the address with a MAC of its own: the one that MetalLB names, if it has a record of it."""
    asked, service = trail.address, str(trail.seen["address"].get("service", ""))
    route = trail.client.route(asked)
    if route is None or route.gateway:
        way = f"leads to {route.gateway}" if route else "is missing"
        text = f"the route from this machine to {asked} {way}: the lab's network is not there"
        raise ProblemError("route-missing", text)
    heard = _heard(trail, route)
    owners = {mac: each.name for each in trail.lab.nodes for mac in heard[each.address]}
    announced = observe.announcing_nodes(trail.cluster).get((service.partition("/")[0], service.partition("/")[2]))
    macs = sorted(heard[asked])
    evidence: Evidence = {
        "announced_by": announced,
        "answers_arp": [{"mac": mac, "node": owners.get(mac)} for mac in macs],
        "route": f"dev {route.device} src {route.source}",
    }
    if not macs:
        raise announcing.unannounced(trail.cluster, trail.controller, trail.lab, asked, evidence)
    if problem := _wrong_owner(trail, macs, owners, announced, evidence):
        raise problem
    return evidence


def _heard(trail: Trail, route: Route) -> dict[IPv4Address, frozenset[str]]:
    """Return who answers ARP for the address and for each node."""
    try:
        return trail.client.ask_arp([trail.address, *(each.address for each in trail.lab.nodes)], route)
    except OSError as error:
        raise ProblemError(
            "arp-not-asked",
            f"who has {trail.address} cannot be asked on {route.device}: {error}",
            fix="A packet filter or the interface keeps this machine from asking.",
            commands=(f"ip link show {route.device}",),
            state=UNKNOWN,
        ) from error


def _wrong_owner(
    trail: Trail, macs: Sequence[str], owners: Mapping[str, str], announced: str | None, evidence: Evidence
) -> ProblemError | None:
    """Return what is wrong with those who answer ARP: a stranger, or another node than MetalLB names."""
    asked = trail.address
    if foreign := [mac for mac in macs if mac not in owners]:
        return ProblemError(
            "address-taken",
            f"{', '.join(foreign)} answers ARP for {asked}, and is no node of the lab: something else has this address",
            evidence,
            fix="Find it by its MAC and give it another address, or choose another pool than "
            f"{trail.lab.pool} in labctl.yaml.",
            commands=(f"ip neigh show {asked}",),
        )
    answering = ", ".join(owners[mac] for mac in macs)
    if announced is not None and announced not in {owners[mac] for mac in macs}:
        return ProblemError(
            "announcer-differs",
            f"MetalLB says that {announced} announces {asked}, and {answering} answers ARP for it",
            evidence,
            fix="Try again: the address may be moving. If it stays so, look at the speakers' logs.",
            commands=(
                kubectl(trail.lab.name, "-n", metallb.NAMESPACE, "logs", "-l", announcing.SPEAKERS, "--tail=50"),
            ),
        )
    return None
