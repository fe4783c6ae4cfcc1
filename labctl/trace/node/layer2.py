"""Read what MetalLB's speakers use to choose the node that announces an address at layer 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from labctl.cluster.selectors import matches
from labctl.model.lab import Lab, announcing_order
from labctl.trace import backend
from labctl.trace.metallb import metallb
from labctl.trace.trail import Trail

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

SPEAKERS = "component=speaker"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
UNAVAILABLE = "NetworkUnavailable"
"""The condition of a node from which MetalLB does not announce."""
IGNORES_EXCLUDED = "--ignore-exclude-lb"
Objects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Layer2:
    """Everything that MetalLB's speakers use to choose the announcing node."""

    trail: Trail
    address: IPv4Address
    advertisements: Objects
    pool: Mapping[str, Any] | None
    """None if no pool contains the address."""
    nodes: Objects
    speaker: Mapping[str, Any] | None
    """The speakers' DaemonSet."""
    pods: Objects
    """The speakers' pods."""
    service: Mapping[str, Any]
    endpoints: Objects
    """The endpoints of the ingress controller's Service."""

    @property
    def lab(self) -> Lab:
        """The lab."""
        return self.trail.lab

    @property
    def selecting(self) -> Objects:
        """Return the advertisements of the address's pool."""
        pool = self.pool
        return [each for each in self.advertisements if pool is None or selects_pool(each, pool)]

    @property
    def selected(self) -> list[str]:
        """Return the nodes that these advertisements select."""
        return [
            node["metadata"]["name"] for node in self.nodes if any(selects_node(each, node) for each in self.selecting)
        ]

    @property
    def allowed(self) -> list[str]:
        """Return the selected nodes without the label that excludes them."""
        excluded = {node["metadata"]["name"] for node in self.nodes if EXCLUDED in node["metadata"].get("labels", {})}
        return [name for name in self.selected if name not in excluded or self._ignores_labels()]

    @property
    def available(self) -> list[str]:
        """Return the allowed nodes whose network is not reported as unavailable."""
        unavailable = {node["metadata"]["name"] for node in self.nodes if _is_unavailable(node)}
        return [name for name in self.allowed if name not in unavailable]

    @property
    def speaking(self) -> list[str]:
        """Return the available nodes with a ready speaker."""
        ready = {pod["spec"].get("nodeName") for pod in self.pods if backend.is_ready(pod)}
        return [name for name in self.available if name in ready]

    @property
    def serving(self) -> set[str]:
        """Return the nodes with a ready pod of the Service."""
        return {str(each.get("nodeName")) for each in self.endpoints if is_ready(each)}

    @property
    def is_local(self) -> bool:
        """Return whether a node may only forward packets to its own pods."""
        return bool(self.service.get("spec", {}).get("externalTrafficPolicy") == "Local")

    @property
    def candidates(self) -> list[str]:
        """Return the nodes that may announce the address; the first one does."""
        names = [name for name in self.speaking if not self.is_local or name in self.serving]
        return announcing_order(names, self.address)

    def _ignores_labels(self) -> bool:
        return any(each.startswith(IGNORES_EXCLUDED) for each in metallb.arguments(self.speaker or {}))


def read(trail: Trail) -> Layer2:
    """Return what MetalLB uses to choose the node. Raises LabError."""
    cluster, controller = trail.cluster, trail.controller
    pools = cluster.find(metallb.API, "IPAddressPool", metallb.NAMESPACE)
    name = trail.evidence.get("address", {}).get("pool")
    return Layer2(
        trail,
        trail.address,
        cluster.find(metallb.API, "L2Advertisement", metallb.NAMESPACE),
        next((each for each in pools if each["metadata"]["name"] == name), None),
        cluster.find("v1", "Node"),
        cluster.get("apps/v1", "DaemonSet", "speaker", metallb.NAMESPACE),
        cluster.find("v1", "Pod", metallb.NAMESPACE, SPEAKERS),
        cluster.get("v1", "Service", controller.service, controller.namespace) or {},
        endpoints(cluster, controller.namespace, controller.service),
    )


def endpoints(cluster: Cluster, namespace: str, service: str) -> list[dict[str, Any]]:
    """Return the endpoints of a Service, each with the ports of its slice."""
    slices = cluster.find(backend.SLICE, "EndpointSlice", namespace, f"kubernetes.io/service-name={service}")
    return [
        {**each, "ports": endpoint_slice.get("ports") or []}
        for endpoint_slice in slices
        for each in endpoint_slice.get("endpoints") or ()
    ]


def selects_pool(advertisement: Mapping[str, Any], pool: Mapping[str, Any]) -> bool:
    """Return whether an L2Advertisement selects a pool: without names and selectors, it selects all."""
    spec = advertisement.get("spec") or {}
    names, selectors = spec.get("ipAddressPools") or (), spec.get("ipAddressPoolSelectors") or ()
    if not names and not selectors:
        return True
    labels = pool["metadata"].get("labels", {})
    return pool["metadata"]["name"] in names or any(matches(each, labels) for each in selectors)


def selects_node(advertisement: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Return whether an L2Advertisement selects a node: without selectors, it selects all."""
    selectors = (advertisement.get("spec") or {}).get("nodeSelectors") or ()
    return not selectors or any(matches(each, node["metadata"].get("labels", {})) for each in selectors)


def _is_unavailable(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any((each["type"], each["status"]) == (UNAVAILABLE, "True") for each in conditions)


def is_ready(endpoint: Mapping[str, Any]) -> bool:
    """Return whether MetalLB and kube-proxy use the endpoint."""
    conditions = endpoint.get("conditions") or {}
    return bool(conditions.get("ready", True) or conditions.get("serving", False))
