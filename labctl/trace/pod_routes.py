"""Routes from a node to the pods of the other nodes: what labctl set up, and what a node has now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

from labctl.cluster import unready
from labctl.model.lab import Lab, Node
from labctl.trace.node import node_facts
from labctl.trace.node.node_facts import NodeFacts, Pod
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.response import answers
from labctl.trace.trail import Trail

SILENT = frozenset({"no-answer", "backend-refused", "backend-too-slow", "pods-differ", "pod-not-reached"})
"""Causes that a lost route between the ingress controller and the app also has.

A controller that asks another pod in place of the one it does not reach hides the loss for a while: it is broken."""


def lost(lab: Lab, facts: NodeFacts, pod: Pod) -> ProblemError | None:
    """Return that a node has no route, or a wrong one, to a pod on another node."""
    owner = next((each for each in lab.nodes if each.name == pod.node), None)
    found = facts.route(str(pod.address))
    if owner is None or owner == facts.node or (found and found.get("gateway") == str(owner.address)):
        return None
    current = f"goes by {found.get('gateway') or found.get('dev')}" if found else "is missing, or refuses packets"
    line = ("ip", "route", "replace", str(owner.pod_network), "via", str(owner.address), "dev", facts.device or "eth1")
    return ProblemError(
        "pod-route-missing",
        f"the route from {facts.node.name} to {owner.pod_network}, the pods of {owner.name}, {current}: packets from "
        f"there to {pod.address} get lost",
        fix="Add the route again.",
        commands=(labctl(lab.name, "ssh", facts.node.name, "--", "sudo", *line),),
    )


def explain(trail: Trail, problem: ProblemError) -> ProblemError:
    """Return the problem with a response, and the lost route between the ingress controller and the app that causes it."""
    if problem.cause not in SILENT or not trail.seen.get("pod"):
        return problem
    cause = next(filter(None, (_lost(trail, node, [pod]) for node, pod in _to_the_app(trail, problem.evidence))), None)
    if cause is None:
        return problem
    text = f"{problem.text}; {cause.text}"
    return ProblemError(cause.cause, text, problem.evidence, fix=cause.fix, commands=cause.commands)


def from_api_server(trail: Trail, namespace: str, deployment: str) -> ProblemError | None:
    """Return the lost route that keeps the API server from a Deployment's pods, and so from the webhook they serve."""
    found = trail.cluster.get("apps/v1", "Deployment", deployment, namespace)
    pods = unready.pods_of(trail.cluster, found) if found else []
    return _lost(trail, trail.lab.control_plane, [pod for each in pods if (pod := _placed(each))])


def _lost(trail: Trail, node: Node, pods: list[Pod]) -> ProblemError | None:
    elsewhere = [pod for pod in pods if pod.node != node.name]
    facts = node_facts.ask_routes(trail, node, elsewhere) if elsewhere else None
    return next(filter(None, (lost(trail.lab, facts, pod) for pod in elsewhere)), None) if facts else None


def _to_the_app(trail: Trail, evidence: Mapping[str, Any]) -> Iterator[tuple[Node, Pod]]:
    """Yield a node and the pod on another one that it has to reach, for requests to the app and for its answers."""
    nodes = {each.name: each for each in trail.lab.nodes}
    announcing = trail.seen.get("node", {}).get("announced_by")
    controllers = {each["metadata"]["name"]: pod for each in trail.controller_pods() if (pod := _placed(each))}
    local = next((each for each in controllers.values() if each.node == announcing), None)
    controller = controllers.get(str(evidence.get("taken_by")), local)
    if controller is None or controller.node not in nodes:
        return
    for each in answers.everyone(trail):
        if each["node"] in nodes and each["node"] != controller.node:
            yield nodes[controller.node], Pod(IPv4Address(each["address"]), each["port"], each["node"])
            yield nodes[each["node"]], controller


def _placed(pod: Mapping[str, Any]) -> Pod | None:
    """Return where a pod is; None of one that has no address, or that of its node."""
    address, spec = pod.get("status", {}).get("podIP"), pod.get("spec", {})
    is_own = address and not spec.get("hostNetwork")
    return Pod(IPv4Address(address), 0, spec.get("nodeName", "")) if is_own else None
