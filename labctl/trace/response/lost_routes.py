"""Find a missing route between nodes that explains a failed response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

from labctl.model.lab import Node
from labctl.trace.node.node_facts import Pod
from labctl.trace.node.pod_routes import first_lost, placed
from labctl.trace.problem import ProblemError
from labctl.trace.response import answers
from labctl.trace.trail import Trail

SILENT = frozenset({"no-answer", "backend-refused", "backend-too-slow", "pods-differ", "pod-not-reached"})
"""Causes that a missing route between the ingress controller and the app may also have.

A controller that retries on another pod hides the missing route for a while; the hop is broken nevertheless."""


def explain(trail: Trail, problem: ProblemError) -> ProblemError:
    """Return the problem of a response, or the missing route between ingress controller and app that causes it."""
    if problem.cause not in SILENT or not trail.seen.get("pod"):
        return problem
    cause = next(
        filter(None, (first_lost(trail, node, [pod]) for node, pod in _to_the_app(trail, problem.evidence))), None
    )
    if cause is None:
        return problem
    text = f"{problem.text}; {cause.text}"
    return ProblemError(cause.cause, text, problem.evidence, fix=cause.fix, commands=cause.commands)


def _to_the_app(trail: Trail, evidence: Mapping[str, Any]) -> Iterator[tuple[Node, Pod]]:
    """Yield a node and the pod on another node that it must reach, for requests to the app and for its replies."""
    nodes = {each.name: each for each in trail.lab.nodes}
    announcing = trail.seen.get("node", {}).get("announced_by")
    controllers = {each["metadata"]["name"]: pod for each in trail.controller_pods() if (pod := placed(each))}
    local = next((each for each in controllers.values() if each.node == announcing), None)
    controller = controllers.get(str(evidence.get("taken_by")), local)
    if controller is None or controller.node not in nodes:
        return
    for each in answers.everyone(trail):
        if each["node"] in nodes and each["node"] != controller.node:
            yield nodes[controller.node], Pod(IPv4Address(each["address"]), each["port"], each["node"])
            yield nodes[each["node"]], controller
