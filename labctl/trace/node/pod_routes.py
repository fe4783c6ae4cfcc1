"""Check the routes from a node to the pods of the other nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from labctl.cluster import unready
from labctl.host import routes
from labctl.model.lab import Lab, Node
from labctl.trace.node import node_facts
from labctl.trace.node.node_facts import NodeFacts, Pod
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.trail import Trail


def check_route(lab: Lab, facts: NodeFacts, pod: Pod, source: IPv4Address | None = None) -> ProblemError | None:
    """Return a problem if a node has no route, or a wrong one, to a pod on another node.

    `source` has packets that the node forwards. A pod with its node's own address needs none of labctl's routes.
    """
    owner = next((each for each in lab.nodes if each.name == pod.node), None)
    route = facts.route(str(pod.address))
    if owner is None or owner == facts.node or pod.address not in owner.pod_network:
        return None
    if rule := facts.overriding_rule(pod.address, source, str(owner.address)):
        return _ruled(lab, facts, owner, pod, routes.rule_text(rule))
    if not facts.knows_route(str(pod.address)):
        return None
    if route and route.get("gateway") == str(owner.address):
        return None
    current = f"goes via {route.get('gateway') or route.get('dev')}" if route else "is missing, or rejects packets"
    line = ("ip", "route", "replace", str(owner.pod_network), "via", str(owner.address), "dev", facts.device or "eth1")
    return ProblemError(
        "pod-route-missing",
        f"the route from {facts.node.name} to {owner.pod_network}, the pods of {owner.name}, {current}: packets "
        f"to {pod.address} are lost",
        fix="Add the route again.",
        commands=(labctl(lab.name, "ssh", facts.node.name, "--", "sudo", *line),),
    )


def _ruled(lab: Lab, facts: NodeFacts, owner: Node, pod: Pod, rule: str) -> ProblemError:
    return ProblemError(
        "pod-route-missing",
        f"the routing rule `{rule}` on {facts.node.name} takes precedence over its route to {owner.pod_network}, the "
        f"pods of {owner.name}: packets to {pod.address} are lost",
        fix="Remove the rule.",
        commands=(labctl(lab.name, "ssh", facts.node.name, "--", "sudo", "ip", "rule", "del", *rule.split()),),
    )


def unreachable_from_api_server(trail: Trail, namespace: str, deployment: str) -> ProblemError | None:
    """Return what prevents the API server from reaching a Deployment's pods, and so the webhook that they serve."""
    workload = trail.cluster.get("apps/v1", "Deployment", deployment, namespace)
    pods = [pod for each in (unready.pods_of(trail.cluster, workload) if workload else []) if (pod := pod_of(each))]
    nodes = [each for each in trail.lab.nodes if any(pod.node == each.name for pod in pods)]
    unforwarding = (_query_forwarding_off(trail, node) for node in nodes if node != trail.lab.control_plane)
    return find_lost_route(trail, trail.lab.control_plane, pods) or next(filter(None, unforwarding), None)


def find_lost_route(trail: Trail, node: Node, pods: Sequence[Pod]) -> ProblemError | None:
    """Return a problem if a node lacks a route to one of these pods; None if it has all or does not answer."""
    elsewhere = [pod for pod in pods if pod.node != node.name]
    facts = node_facts.query_routes(trail, node, elsewhere) if elsewhere else None
    return next(filter(None, (check_route(trail.lab, facts, pod) for pod in elsewhere)), None) if facts else None


def forwarding_off(lab: Lab, facts: NodeFacts) -> ProblemError | None:
    """Return a problem if IP forwarding is off on a node."""
    if facts.forwards:
        return None
    return ProblemError(
        "forwarding-off",
        f"IP forwarding is off on {facts.node.name}: net.ipv4.ip_forward is 0",
        fix="Enable IP forwarding on the node.",
        commands=(labctl(lab.name, "ssh", facts.node.name, "--", "sudo", "sysctl", "-w", "net.ipv4.ip_forward=1"),),
    )


def _query_forwarding_off(trail: Trail, node: Node) -> ProblemError | None:
    facts = node_facts.query_forwarding(trail, node, ())
    return forwarding_off(trail.lab, facts) if facts else None


def pod_of(pod: Mapping[str, Any]) -> Pod | None:
    """Return a pod's address, port and node; None if it has no address of its own."""
    address, spec = pod.get("status", {}).get("podIP"), pod.get("spec", {})
    is_own = address and not spec.get("hostNetwork")
    return Pod(IPv4Address(address), 0, spec.get("nodeName", "")) if is_own else None
