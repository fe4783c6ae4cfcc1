"""Gather the facts about a failed connection: the Service, its pods, and the announcing node's network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from labctl.host.arp import Route
from labctl.host.http_probe import HTTP
from labctl.model.errors import LabError
from labctl.model.lab import Lab, Node
from labctl.trace.node import layer2, node_facts
from labctl.trace.node.node_facts import NodeFacts, Pod, pod_at
from labctl.trace.problem import labctl
from labctl.trace.trail import Trail


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that failed, and the facts about its path."""

    trail: Trail
    route: Route
    node: Node
    """The node that announces the address."""
    service: dict[str, Any] | None
    """None if the API does not answer."""
    pods: Sequence[Pod]
    """The pods to which the node may forward a connection."""
    facts: NodeFacts | None

    @property
    def lab(self) -> Lab:
        """The lab."""
        return self.trail.lab

    @property
    def address(self) -> IPv4Address:
        """The address that was contacted."""
        return self.trail.address

    def node_command(self, *words: str) -> str:
        """Return a command that runs on the node, without using the network if its provider allows that."""
        return node_command(self.trail, self.node, *words)


def node_command(trail: Trail, node: Node, *words: str) -> str:
    """Return a command that runs on a node as root, without using the network if its provider allows that."""
    if way_in := trail.context.hypervisor.shell_command:
        return labctl(trail.lab.name, "exec", "--", *way_in, node.name, *words)
    return labctl(trail.lab.name, "ssh", node.name, "--", "sudo", *words)


def read(trail: Trail, route: Route, node: Node) -> Attempt:
    """Return the facts about a connection's path; without the Service and pods if the API does not answer."""
    try:
        service, endpoints = service_of(trail)
    except LabError:
        service, endpoints = None, []
    pods = pods_of(service or {}, endpoints, node)
    return Attempt(trail, route, node, service, pods, node_facts.query_node(trail, node, route.source, pods))


def service_of(trail: Trail) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the ingress controller's Service and its endpoints. Raises LabError."""
    cluster, controller = trail.cluster, trail.controller
    service = cluster.get("v1", "Service", controller.service, controller.namespace)
    return service, layer2.endpoints(cluster, controller.namespace, controller.service)


def pods_of(service: dict[str, Any] | None, endpoints: Sequence[dict[str, Any]], node: Node) -> list[Pod]:
    """Return the pods to which the node may forward a connection: only its own with externalTrafficPolicy Local."""
    spec = (service or {}).get("spec", {})
    name = next((each.get("name", "") for each in spec.get("ports") or () if each["port"] == HTTP), None)
    is_local = spec.get("externalTrafficPolicy") == "Local"
    pods = []
    for each in endpoints:
        port = next((one.get("port") for one in each["ports"] if (one.get("name") or "") == (name or "")), None)
        where = each.get("nodeName") or ""
        is_ready = (each.get("conditions") or {}).get("ready", True)
        if port and is_ready and each["addresses"] and (where == node.name or not is_local):
            pods.append(pod_at(each["addresses"][0], port, where))
    return [each for each in pods if each]
