"""What MetalLB has, and why an address is not given out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from typing import TYPE_CHECKING

from labctl import observe
from labctl.ingress import IngressController
from labctl.lab import Lab
from labctl.trace.problem import ProblemError, kubectl
from labctl.wait import Pending

if TYPE_CHECKING:
    from labctl.kube import Cluster

Network = IPv4Network | IPv6Network
API = "metallb.io/v1beta1"
NAMESPACE = "metallb-system"
EXHAUSTED = "no available IPs"
"""What MetalLB's event on a Service says when every pool is given out."""


def pools(cluster: Cluster) -> dict[str, list[Network]]:
    """Return MetalLB's address pools by name, each with the networks it consists of."""
    return {
        pool["metadata"]["name"]: [network for entry in pool["spec"]["addresses"] for network in _networks(entry)]
        for pool in cluster.list(API, "IPAddressPool", NAMESPACE)
    }


def unowned(
    cluster: Cluster, controller: IngressController, lab: Lab, found: Mapping[str, Sequence[Network]]
) -> ProblemError:
    """Return why the ingress controller's Service has no address."""
    service = f"{controller.namespace}/{controller.service}"
    live = cluster.get("v1", "Service", controller.service, controller.namespace)
    if live is None:
        return ProblemError("service-missing", f"there is no Service {service}")
    reason = observe.load_balancer_address(cluster, controller.namespace, controller.service)
    told = reason.reason if isinstance(reason, Pending) else f"it has {reason}"
    if isinstance(reason, Pending) and (kind := live["spec"].get("type", "ClusterIP")) != observe.LOAD_BALANCER:
        return ProblemError("service-not-a-load-balancer", f"the Service {service} has no address: its type is {kind}")
    if not found:
        return ProblemError("pool-missing", f"the Service {service} has no address: MetalLB has no IPAddressPool")
    if EXHAUSTED in told:
        return ProblemError(
            "pool-exhausted",
            f"the Service {service} has no address: the pool is exhausted ({told})",
            fix=f"Delete a Service of type LoadBalancer, or let the pool {lab.pool} grow in labctl.yaml and run "
            "`labctl up`.",
            commands=(kubectl(lab.name, "get", "services", "--all-namespaces"),),
        )
    return ProblemError("address-missing", f"the Service {service} does not own the address: {told}")


def _networks(entry: str) -> list[Network]:
    first, dash, last = (part.strip() for part in entry.partition("-"))
    if not dash:
        return [ip_network(first, strict=False)]
    low, high = ip_address(first), ip_address(last)
    networks: list[Network] = list(summarize_address_range(low, high))
    return networks
