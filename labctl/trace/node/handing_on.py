"""Check on a node whether it forwards connections to the ingress controller's pods, and replies back."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.host.http_probe import HTTP
from labctl.trace.node import pod_routes
from labctl.trace.node.attempt import Attempt
from labctl.trace.node.node_facts import NodeFacts
from labctl.trace.probes import filters
from labctl.trace.probes.filters import Stop
from labctl.trace.probes.packets import ESTABLISHED, NEW, Packet
from labctl.trace.problem import ProblemError

TRANSLATED = filters.PRIORITIES["srcnat"]


def not_forwarding(attempt: Attempt) -> ProblemError | None:
    """Return a problem if IP forwarding is off on the node."""
    if attempt.facts is None or attempt.facts.forwards:
        return None
    return ProblemError(
        "forwarding-off",
        f"IP forwarding is off on {attempt.node.name}: net.ipv4.ip_forward is 0",
        fix="Enable IP forwarding on the node.",
        commands=(attempt.on_node("sysctl", "-w", "net.ipv4.ip_forward=1"),),
    )


def filtered(attempt: Attempt) -> ProblemError | None:
    """Return a problem if a rule of the node's packet filter drops the packets or the replies."""
    facts = attempt.facts
    if facts is None or facts.ruleset is None:
        return None
    source, outside = attempt.route.source, facts.device
    reply = Packet(attempt.address, source, HTTP, None, None, outside, ESTABLISHED)
    stops = (facts.ruleset.stop(packet, *hooks) for packet, hooks in _passing(attempt, facts))
    stop: Stop | None = next(filter(None, stops), None)
    # Its source is the address again only behind kube-proxy's translation.
    stop = stop or facts.ruleset.stop(reply, "postrouting", "egress", after=TRANSLATED)
    if stop is None:
        return None
    return ProblemError(
        "filtered-on-node",
        f"the packet filter of {attempt.node.name} drops the packets: "
        f"{filters.wording(facts.sections.get('listing', ''), stop)}",
        fix="Remove the rule.",
        commands=(attempt.into_node(*stop.removal),),
    )


def _passing(attempt: Attempt, facts: NodeFacts) -> Iterator[tuple[Packet, tuple[str, ...]]]:
    """Yield the packets of a connection, before and after kube-proxy's address translation, each with its hooks."""
    source, outside = attempt.route.source, facts.device
    yield Packet(source, attempt.address, None, HTTP, outside, None, NEW), ("ingress", "prerouting")
    for pod in attempt.pods:
        device = (facts.route(str(pod.address)) or {}).get("dev")
        yield Packet(source, pod.address, None, pod.port, outside, device, NEW), ("forward", "postrouting")
        yield Packet(pod.address, source, pod.port, None, device, outside, ESTABLISHED), ("prerouting", "forward")


def unreached(attempt: Attempt) -> ProblemError | None:
    """Return a problem if the node cannot reach a pod, or the pod does not accept connections."""
    facts = attempt.facts
    if facts is None:
        return None
    for pod in attempt.pods:
        if facts.reaches(pod):
            continue
        if problem := pod_routes.lost(attempt.lab, facts, pod):
            return problem
        return ProblemError(
            "controller-port-closed",
            f"{pod.address} on {pod.node}, a pod of the ingress controller, does not accept connections on port {pod.port} "
            f"from {attempt.node.name}",
        )
    return None


def no_way_back(attempt: Attempt) -> ProblemError | None:
    """Return a problem if the node has no direct route back to this machine."""
    facts, source = attempt.facts, attempt.route.source
    if facts is None or not facts.device or not facts.knows_route("back"):
        return None
    route = facts.route("back")
    if route and route.get("dev") == facts.device and "gateway" not in route:
        return None
    course = f"goes via {route.get('gateway') or route.get('dev')}" if route else "refuses packets"
    return ProblemError(
        "way-back-missing",
        f"the route from {attempt.node.name} back to this machine, {source}, {course}",
        fix="Make the node reply on the interface of the lab's network.",
        commands=(attempt.into_node("ip", "route", "replace", str(source), "dev", facts.device),),
    )
