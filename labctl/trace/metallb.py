"""What MetalLB has, and why an address is not given out or not announced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, summarize_address_range

from labctl import observe
from labctl.ingress import IngressController
from labctl.kube import Cluster
from labctl.lab import Lab
from labctl.trace import backend
from labctl.trace.broken import BrokenHopError, Evidence
from labctl.wait import Pending

API = "metallb.io/v1beta1"
NAMESPACE = "metallb-system"
SPEAKERS = "component=speaker"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
EXHAUSTED = "no available IPs"
"""What MetalLB's event on a Service says when every pool is given out."""
UP = "`labctl up` puts it right."


def pools(cluster: Cluster) -> dict[str, list[IPv4Network]]:
    """MetalLB's address pools by name, each with the networks it consists of."""
    return {
        pool["metadata"]["name"]: [network for entry in pool["spec"]["addresses"] for network in _networks(entry)]
        for pool in cluster.list(API, "IPAddressPool", NAMESPACE)
    }


def unowned(
    cluster: Cluster, controller: IngressController, lab: Lab, found: Mapping[str, Sequence[IPv4Network]]
) -> BrokenHopError:
    """Why the ingress controller's Service has no address."""
    service = f"{controller.namespace}/{controller.service}"
    reason = observe.load_balancer_address(cluster, controller.namespace, controller.service)
    told = reason.reason if isinstance(reason, Pending) else f"it has {reason}"
    if not found:
        return BrokenHopError(f"the Service {service} has no address: MetalLB has no IPAddressPool", UP)
    if EXHAUSTED in told:
        return BrokenHopError(
            f"the Service {service} has no address: the pool is exhausted ({told})",
            f"Delete a Service of type LoadBalancer, or let the pool {lab.pool} grow in labctl.yaml and type `labctl up`.",
        )
    return BrokenHopError(f"the Service {service} does not own the address: {told}", UP)


def unannounced(
    cluster: Cluster, controller: IngressController, address: IPv4Address, evidence: Evidence
) -> BrokenHopError:
    """Why no node announces the address, the first thing that MetalLB needs for it first."""
    silence = f"no node announces {address}"
    if not cluster.list(API, "L2Advertisement", NAMESPACE):
        return BrokenHopError(f"{silence}: MetalLB has no L2Advertisement", UP, evidence)
    if not any(map(backend.is_ready, backend.controller_pods(cluster, controller))):
        return BrokenHopError(
            f"{silence}: no pod of the ingress controller {controller.name} is ready, and MetalLB announces nothing "
            "for a Service without one",
            UP,
            evidence,
        )
    nodes = {node["metadata"]["name"]: node["metadata"].get("labels", {}) for node in cluster.list("v1", "Node")}
    allowed = [name for name, labels in nodes.items() if EXCLUDED not in labels]
    if not allowed:
        return BrokenHopError(
            f"{silence}: every node has the label {EXCLUDED}",
            f"Take it from one: `labctl exec -- kubectl label node {next(iter(nodes), 'NODE')} {EXCLUDED}-`.",
            evidence,
        )
    speakers = cluster.list("v1", "Pod", NAMESPACE, SPEAKERS)
    speaking = {pod["spec"].get("nodeName") for pod in speakers if backend.is_ready(pod)}
    if not speaking & set(allowed):
        return BrokenHopError(
            f"{silence}: MetalLB's speaker is not ready on {' or '.join(allowed)}",
            "`labctl up` applies it; `labctl exec -- kubectl -n metallb-system get pods` says more.",
            evidence,
        )
    return BrokenHopError(
        f"{silence}, or it does not answer ARP yet",
        "Try again; then `labctl exec -- kubectl -n metallb-system logs ds/speaker` says more.",
        evidence,
    )


def _networks(entry: str) -> list[IPv4Network]:
    first, dash, last = (part.strip() for part in entry.partition("-"))
    if not dash:
        return [IPv4Network(first, strict=False)]
    return list(summarize_address_range(IPv4Address(first), IPv4Address(last)))
