"""Find why packets are lost between nodes, which may explain a failed response: routes, forwarding, filters, ARP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from labctl.model.lab import Node
from labctl.trace.node import forwarding, node_facts
from labctl.trace.node.host_routes import packets_filtered
from labctl.trace.node.node_facts import NodeFacts, Pod, pod_at
from labctl.trace.node.pod_routes import check_route, forwarding_off, pod_of
from labctl.trace.node.static_entries import check_entry
from labctl.trace.probes.filters import BRIDGE
from labctl.trace.probes.packets import ESTABLISHED, NEW, Packet
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.response import answers
from labctl.trace.trail import Trail

NODES_AT_ONCE = 4
PASSED = ("ingress", "prerouting", "forward", "postrouting", "egress")
"""The hooks that a packet passes if a node forwards it."""
BRIDGED = ("prerouting", "forward", "postrouting")
"""The hooks that a packet passes if a machine's bridge forwards it."""
SILENT = frozenset({"no-answer", "backend-refused", "backend-too-slow", "pods-differ", "pod-not-reached"})
"""Causes that lost packets between the ingress controller and the app may explain.

A controller that retries on another pod hides the loss for a while; the hop is broken nevertheless."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A node on the path between a pod of the ingress controller and a pod of the app on another node."""

    node: Node
    controller: Pod
    app: Pod

    @property
    def local_pod(self) -> Pod:
        """The pod on this node."""
        return self.app if self.app.node == self.node.name else self.controller

    @property
    def remote_pod(self) -> Pod:
        """The pod on the other node."""
        return self.controller if self.local_pod == self.app else self.app


def explain(trail: Trail, problem: ProblemError) -> ProblemError:
    """Return the problem of a response, or the loss of packets between ingress controller and app that explains it."""
    if problem.cause not in SILENT or not trail.evidence.get("pod") or trail.is_compared:
        return problem
    cause = lost_between_pods(trail, str(problem.evidence.get("taken_by")))
    return problem if cause is None else cause.within(f"{problem.text}; {cause.text}", problem.evidence)


def lost_between_pods(trail: Trail, taken_by: str) -> ProblemError | None:
    """Return why packets are lost between the controller's pod that took a request and the app's pods elsewhere."""
    trail.is_compared = True
    legs = list(_to_the_app(trail, taken_by))
    its = {node: [each for each in legs if each.node == node] for node in dict.fromkeys(each.node for each in legs)}
    with ThreadPoolExecutor(NODES_AT_ONCE) as pool:
        reported = list(filter(None, pool.map(lambda node: _facts(trail, node, its[node]), its)))
    if problem := next(filter(None, (_lost(trail, facts, its[facts.node]) for facts in reported)), None):
        return problem
    near = next((facts for facts in reported if facts.node.name == its[facts.node][0].controller.node), None)
    return _filtered_here(trail, legs) or (_unreached(trail, near, legs) if near else None)


def _facts(trail: Trail, node: Node, legs: Sequence[Leg]) -> NodeFacts | None:
    pods = dict.fromkeys(pod for leg in legs for pod in (leg.local_pod, leg.remote_pod))
    return node_facts.query_forwarding(trail, node, pods)


def _lost(trail: Trail, facts: NodeFacts, legs: Sequence[Leg]) -> ProblemError | None:
    missing = (check_route(trail.lab, facts, leg.remote_pod, leg.local_pod.address) for leg in legs)
    dropped = (_filtered(trail, leg, facts) for leg in legs)
    others = _others(trail, facts.node, legs)
    unheard = (forwarding.arp_dropped(trail, facts, node.address) for node in others)
    fixed = (check_entry(trail, facts, node) for node in others)
    return (
        next(filter(None, missing), None)
        or forwarding_off(trail.lab, facts)
        or next(filter(None, dropped), None)
        or next(filter(None, unheard), None)
        or next(filter(None, fixed), None)
    )


def _others(trail: Trail, node: Node, legs: Sequence[Leg]) -> Sequence[Node]:
    names = {leg.remote_pod.node for leg in legs if leg.node == node}
    return [each for each in trail.lab.nodes if each.name in names]


def _unreached(trail: Trail, facts: NodeFacts, legs: Sequence[Leg]) -> ProblemError | None:
    """Return a problem if the controller's node does not connect to a pod of the app that its own node connects to."""
    near = facts.node
    for far in _others(trail, near, legs):
        pods = dict.fromkeys(leg.app for leg in legs if leg.app.node == far.name)
        pod = next((each for each in pods if _is_cut_off(trail, near, far, each)), None)
        if pod is None:
            continue
        silent = f", and gets no answer to ARP requests for {far.address}" if facts.is_silent(far.address) else ""
        return ProblemError(
            "node-not-reached",
            f"{near.name} does not connect to {pod.address}, port {pod.port}, to which {far.name} connects{silent}",
            fix="Restart both nodes, so that their network is configured again.",
            commands=(labctl(trail.lab.name, "halt", near.name, far.name), labctl(trail.lab.name, "resume")),
        )
    return None


def _is_cut_off(trail: Trail, near: Node, far: Node, pod: Pod) -> bool:
    """Return whether a pod accepts a connection from its own node, and none from another one that tries before and after."""
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(_connects, trail, near, pod)
        return _connects(trail, far, pod) is True and _connects(trail, near, pod) is False and before.result() is False


def _connects(trail: Trail, node: Node, pod: Pod) -> bool | None:
    """Return whether a node connects to a pod; None if the node did not report it, or the time left is too short."""
    if trail.left(trail.limits.trace_pod) < trail.limits.survey_least:
        trail.unchecked.add(f"whether {node.name} connects to {pod.address}")
        return None
    facts = node_facts.connected(trail, NodeFacts(node, {}), [pod])
    return facts.reaches(pod) if any(facts.sections.values()) else None


def _filtered_here(trail: Trail, legs: Sequence[Leg]) -> ProblemError | None:
    """Return a problem if this machine's packet filter drops packets between the nodes, on this machine's bridge."""
    rules, route = trail.client.filters() if legs else None, trail.client.route(trail.address)
    if rules is None or route is None:
        return None
    ruleset, listing = rules
    packets = [each for leg in legs for each in _packets(leg.controller, leg.app, route.device, route.device)]
    stops = [ruleset.stop(replace(each, comes_in=None, goes_out=None), *BRIDGED, families=BRIDGE) for each in packets]
    if trail.client.filters_bridged():
        stops += [ruleset.stop(each, *BRIDGED) for each in packets]
    stop = next(filter(None, stops), None)
    return None if stop is None else packets_filtered(trail, listing, stop, "packets between nodes")


def _packets(controller: Pod, app: Pod, comes: str | None, goes: str | None) -> tuple[Packet, Packet]:
    """Return a packet from the controller to the app, and the reply, which takes the opposite direction."""
    return (
        Packet(controller.address, app.address, None, app.port, comes, goes, NEW),
        Packet(app.address, controller.address, app.port, None, goes, comes, ESTABLISHED),
    )


def _filtered(trail: Trail, leg: Leg, facts: NodeFacts) -> ProblemError | None:
    """Return a problem if the node's packet filter drops packets between the pods."""
    inside, outside = ((facts.route(str(each.address)) or {}).get("dev") for each in (leg.local_pod, leg.remote_pod))
    comes, goes = (inside, outside) if leg.local_pod == leg.controller else (outside, inside)
    packets = _packets(leg.controller, leg.app, comes, goes)
    return forwarding.dropped_packet(trail, facts, [(packet, PASSED) for packet in packets])


def _to_the_app(trail: Trail, taken_by: str) -> Iterator[Leg]:
    """Yield both nodes between the controller's pod that took the request and each pod of the app on another node."""
    nodes = {each.name: each for each in trail.lab.nodes}
    controllers = {each["metadata"]["name"]: pod for each in trail.controller_pods() if (pod := pod_of(each))}
    local = next((each for each in controllers.values() if each.node == trail.announcing), None)
    controller = controllers.get(taken_by, local)
    if controller is None or controller.node not in nodes:
        return
    for each in answers.possible_endpoints(trail):
        if each["node"] in nodes and each["node"] != controller.node:
            if (app := pod_at(each["address"], each["port"], each["node"])) is None:
                continue
            yield Leg(nodes[controller.node], controller, app)
            yield Leg(nodes[each["node"]], controller, app)
