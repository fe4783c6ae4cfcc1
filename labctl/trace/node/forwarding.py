"""Check whether a node forwards connections to the ingress controller's pods, and the replies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address

from labctl.host import routes
from labctl.host.http_probe import HTTP
from labctl.trace.node import pod_routes
from labctl.trace.node.attempt import Attempt, node_command
from labctl.trace.node.node_facts import NodeFacts
from labctl.trace.probes import filters
from labctl.trace.probes.filters import ARP_TOO, Stop
from labctl.trace.probes.packets import ESTABLISHED, NEW, REPLY, REQUEST, ArpPacket, Packet
from labctl.trace.problem import ProblemError
from labctl.trace.trail import Trail

TRANSLATED = filters.PRIORITIES["srcnat"]


def forwarding_off(attempt: Attempt) -> ProblemError | None:
    """Return a problem if IP forwarding is off on the node."""
    return None if attempt.facts is None else pod_routes.forwarding_off(attempt.lab, attempt.facts)


def filtered_on_node(attempt: Attempt) -> ProblemError | None:
    """Return a problem if a rule of the node's packet filter drops the packets or the replies."""
    facts = attempt.facts
    if facts is None:
        return None
    reply = Packet(attempt.address, attempt.route.source, HTTP, None, None, facts.device, ESTABLISHED)
    problem = dropped_packet(attempt.trail, facts, _passing(attempt, facts))
    # Only after kube-proxy's translation is the address the reply's source again.
    return problem or dropped_packet(attempt.trail, facts, [(reply, ("postrouting", "egress"))], after=TRANSLATED)


def dropped_packet(
    trail: Trail, facts: NodeFacts, passing: Iterable[tuple[Packet, Sequence[str]]], after: float = -math.inf
) -> ProblemError | None:
    """Return a problem if a node's packet filter drops one of these packets at one of its hooks."""
    ruleset = facts.ruleset
    stops = (ruleset.stop(each, *hooks, after=after) for each, hooks in passing) if ruleset else ()
    return _stopped(trail, facts, next(filter(None, stops), None), "the packets")


def arp_filtered(attempt: Attempt) -> ProblemError | None:
    """Return a problem if the node's packet filter drops the ARP packets with which it finds this machine."""
    facts = attempt.facts
    return None if facts is None else arp_dropped(attempt.trail, facts, attempt.route.source)


def arp_dropped(trail: Trail, facts: NodeFacts, other: IPv4Address) -> ProblemError | None:
    """Return a problem if a node's packet filter drops its ARP requests for an address, or the replies."""
    own, device, ruleset = facts.node.address, facts.device or None, facts.ruleset
    if ruleset is None:
        return None
    request, reply = ArpPacket(own, other, REQUEST, device), ArpPacket(other, own, REPLY, device)
    stop = ruleset.stop(request, "output", "egress", families=ARP_TOO)
    stop = stop or ruleset.stop(reply, "ingress", "input", families=ARP_TOO)
    return _stopped(trail, facts, stop, f"ARP packets for {other}")


def _stopped(trail: Trail, facts: NodeFacts, stop: Stop | None, what: str) -> ProblemError | None:
    if stop is None:
        return None
    return ProblemError(
        "filtered-on-node",
        f"the packet filter of {facts.node.name} {stop.effect} {what}: "
        f"{filters.wording(facts.sections.get('listing', ''), stop)}",
        fix="Remove the rule.",
        commands=(node_command(trail, facts.node, *stop.removal),),
    )


def _passing(attempt: Attempt, facts: NodeFacts) -> Iterator[tuple[Packet, tuple[str, ...]]]:
    """Yield the packets of a connection, before and after kube-proxy's address translation, each with its hooks."""
    source, outside = attempt.route.source, facts.device
    yield Packet(source, attempt.address, None, HTTP, outside, None, NEW), ("ingress", "prerouting")
    for pod in attempt.pods:
        device = (facts.route(str(pod.address)) or {}).get("dev")
        yield Packet(source, pod.address, None, pod.port, outside, device, NEW), ("forward", "postrouting")
        yield Packet(pod.address, source, pod.port, None, device, outside, ESTABLISHED), ("prerouting", "forward")


def pod_unreachable(attempt: Attempt) -> ProblemError | None:
    """Return a problem if the node cannot reach a pod, or the pod does not accept connections."""
    facts = attempt.facts
    if facts is None:
        return None
    for pod in attempt.pods:
        if facts.reaches(pod):
            continue
        if problem := pod_routes.check_route(attempt.lab, facts, pod):
            return problem
        return ProblemError(
            "controller-port-closed",
            f"{pod.address} on {pod.node}, a pod of the ingress controller, does not accept connections on port {pod.port} "
            f"from {attempt.node.name}",
        )
    return None


def no_return_route(attempt: Attempt) -> ProblemError | None:
    """Return a problem if the node has no direct route back to this machine."""
    facts, source = attempt.facts, attempt.route.source
    if facts is None:
        return None
    if problem := _return_rule(attempt, facts) or _static_return_mac(attempt, facts):
        return problem
    if not facts.device or not facts.knows_route("back"):
        return None
    route = facts.route("back")
    if route and route.get("dev") == facts.device and "gateway" not in route:
        return None
    course = f"goes via {route.get('gateway') or route.get('dev')}" if route else "rejects packets"
    return ProblemError(
        "way-back-missing",
        f"the route from {attempt.node.name} back to this machine, {source}, {course}",
        fix="Make the node reply on the interface of the lab's network.",
        commands=(attempt.node_command("ip", "route", "replace", str(source), "dev", facts.device),),
    )


def _return_rule(attempt: Attempt, facts: NodeFacts) -> ProblemError | None:
    """Return a problem if a routing rule of the node applies to replies, whose source is still the pod's address."""
    machine = attempt.route.source
    sources = (None, *(pod.address for pod in attempt.pods))
    rule = next(filter(None, (facts.overriding_rule(machine, source) for source in sources)), None)
    if rule is None:
        return None
    return ProblemError(
        "way-back-missing",
        f"the routing rule `{routes.rule_text(rule)}` on {attempt.node.name} takes precedence over the route back to "
        f"this machine, {machine}",
        fix="Remove the rule.",
        commands=(attempt.node_command("ip", "rule", "del", *routes.rule_text(rule).split()),),
    )


def _static_return_mac(attempt: Attempt, facts: NodeFacts) -> ProblemError | None:
    """Return a problem if the node has a static ARP entry with another MAC for this machine."""
    machine, mac = attempt.route.source, facts.fixed_mac(attempt.route.source)
    own = attempt.trail.client.mac(attempt.route.device)
    if mac is None or own is None or mac == own:
        return None
    return ProblemError(
        "neighbour-fixed",
        f"{attempt.node.name} has a static ARP entry for this machine, {machine}, with {mac}, but its MAC is {own}",
        fix="Remove the entry: the kernel then sends ARP requests again.",
        commands=(attempt.node_command("ip", "neigh", "del", str(machine), "dev", facts.device or "eth1"),),
    )
