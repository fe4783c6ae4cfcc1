"""Read the live cluster: which nodes are ready, which Service has which address, and why pods are not ready."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from labctl.cluster import unready
from labctl.host import arp
from labctl.host.wait import Pending
from labctl.model.kinds import ROUTE
from labctl.model.lab import Lab, Role

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

LOAD_BALANCER = "LoadBalancer"
ANNOUNCED_BY = "metallb.io/node"
NOT_JOINED = "it has not joined"


def unready_nodes(cluster: Cluster, lab: Lab) -> dict[str, str]:
    """Return the reason for each of the lab's nodes that is not Ready."""
    live = {node["metadata"]["name"]: node for node in cluster.find("v1", "Node")}
    reasons = {node.name: not_ready_reason(live.get(node.name)) for node in lab.nodes}
    return {name: reason for name, reason in reasons.items() if reason}


def not_ready_reason(node: dict[str, Any] | None) -> str:
    """Return why a node is not Ready, or an empty text; None is a node that the cluster does not know."""
    if node is None:
        return NOT_JOINED
    conditions: list[dict[str, Any]] = node.get("status", {}).get("conditions", [])
    ready = next((condition for condition in conditions if condition["type"] == "Ready"), {})
    return "" if ready.get("status") == "True" else str(ready.get("message", "its kubelet has not reported"))


def lease_times(cluster: Cluster) -> dict[str, datetime]:
    """Return when each node renewed its lease last, by the node's own clock."""
    leases = cluster.find("coordination.k8s.io/v1", "Lease", "kube-node-lease")
    renewed = {lease["metadata"]["name"]: lease.get("spec", {}).get("renewTime") for lease in leases}
    return {name: datetime.fromisoformat(at) for name, at in renewed.items() if at}


def load_balancer_address(cluster: Cluster, namespace: str, service: str) -> IPv4Address | Pending:
    """Return the address that MetalLB allocated to a Service, or the Service's last warning about it."""
    current = cluster.get("v1", "Service", service, namespace)
    if current is None:
        return Pending(f"there is no Service {namespace}/{service}")
    address, kind = address_of(current), current.get("spec", {}).get("type", LOAD_BALANCER)
    if kind != LOAD_BALANCER:
        return Pending(f"its type is {kind} instead of {LOAD_BALANCER}; run `labctl up` to restore it")
    return address or Pending(_last_warning(cluster, current) or "MetalLB has not allocated an address to it")


def address_of(service: Mapping[str, Any]) -> IPv4Address | None:
    """Return the first IPv4 load-balancer address in a Service's status."""
    return next((address for address in addresses_of(service) if isinstance(address, IPv4Address)), None)


def addresses_of(service: Mapping[str, Any]) -> list[IPv4Address | IPv6Address]:
    """Return the load-balancer addresses in a Service's status."""
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    return [ip_address(entry["ip"]) for entry in entries if "ip" in entry]


def announcing_nodes(cluster: Cluster) -> dict[tuple[str, str], str]:
    """Return, by (namespace, name) of a Service, the node that announces its address, as MetalLB records it.

    A record's status cannot be changed (metallb issue 2930): the node that takes over from a failed one changes only
    its label. A node may also have left an old record behind; the newest one counts.
    """
    records = cluster.find("metallb.io/v1beta1", "ServiceL2Status")
    holders = {}
    for record in sorted(records, key=lambda record: record["metadata"].get("creationTimestamp") or ""):
        status = record.get("status", {})
        node = record["metadata"].get("labels", {}).get(ANNOUNCED_BY) or status.get("node")
        if node:
            holders[status.get("serviceNamespace", ""), status.get("serviceName", "")] = str(node)
    return holders


def announcers(
    cluster: Cluster, lab: Lab, addresses: Mapping[tuple[str, str], IPv4Address]
) -> dict[tuple[str, str], str | None]:
    """Return, by (namespace, name) of a Service, the node that announces its address; None if no node answers for it.

    This is the node that MetalLB records, or else the node whose MAC answers ARP: MetalLB 0.15 has no record if a node
    returned and took over an address from a node that announced it without an API server. Services whose announcing
    node is unknown are left out.
    """
    recorded: dict[tuple[str, str], str | None] = {**announcing_nodes(cluster)}
    unrecorded = {service: address for service, address in addresses.items() if service not in recorded}
    way = arp.route(next(iter(unrecorded.values()))) if unrecorded else None
    if way is None or way.gateway:
        return recorded
    heard = arp.query([*unrecorded.values(), *(node.address for node in lab.nodes)], way, lab.limits.arp)
    owners = {mac: node.name for node in lab.nodes for mac in heard[node.address]}
    if not any(heard.values()):
        return recorded  # no request was sent, or no node is up
    answering = {service: owners.get(next(iter(heard[address]), "")) for service, address in unrecorded.items()}
    return recorded | {service: node for service, node in answering.items() if node or not heard[unrecorded[service]]}


def announcer(cluster: Cluster, lab: Lab, namespace: str, service: str) -> str | Pending:
    """Return the node that announces the address of a Service."""
    address = load_balancer_address(cluster, namespace, service)
    held = {} if isinstance(address, Pending) else {(namespace, service): address}
    node = announcers(cluster, lab, held).get((namespace, service))
    return node or Pending(f"no node announces {namespace}/{service}")


def standby(cluster: Cluster, lab: Lab, namespace: str, service: str) -> str | Pending:
    """Return the first Ready node that does not announce the address of a Service, workers before the control plane."""
    announcing = announcer(cluster, lab, namespace, service)
    if isinstance(announcing, Pending):
        return announcing
    excluded = {announcing, *unready_nodes(cluster, lab)}
    by_role = sorted(lab.nodes, key=lambda node: node.role is Role.CONTROL_PLANE)
    others = [node.name for node in by_role if node.name not in excluded]
    return others[0] if others else Pending(f"no node but {announcing} is Ready")


def rollout(cluster: Cluster, namespace: str, deployment: str, *, is_app: bool = True) -> Pending | None:
    """Return None if the rollout of a Deployment is complete, else what is not ready, and why.

    Ready replicas are counted from the pods: the Deployment's own count may predate the API server's last start. The
    lab's own components are known to work, so a problem that may pass is waited out; an app may never become ready.
    """
    current = cluster.get("apps/v1", "Deployment", deployment, namespace)
    if current is None:
        return Pending(f"there is no Deployment {namespace}/{deployment}")
    status, wanted = current.get("status", {}), current["spec"].get("replicas", 1)
    is_current = status.get("observedGeneration") == current["metadata"]["generation"]
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas")]
    pods = unready.pods_of(cluster, current)
    ready = sum(unready.is_ready(pod) for pod in pods)
    if is_current and [*counts, len(pods), ready] == [wanted] * 4:
        return None
    problems = unready.problems(cluster, current)
    newest = f", {counts[1]} of the newest version" if counts[1] != wanted == ready else ""
    reason = f"{namespace}/{deployment} has {ready} of {wanted} ready{newest}"
    reason += "".join(f"; {each}" for each in problems)
    if not problems:
        return Pending(reason)
    worst = problems[0]
    lines = partial(unready.last_lines, cluster, namespace, worst)
    patience = worst.patience if is_app or worst.id not in unready.TRANSIENT else math.inf
    return Pending(reason, worst.id, worst.hint(namespace), patience, lines)


def pods(cluster: Cluster, namespace: str, deployment: str) -> list[dict[str, Any]]:
    """Return a Deployment's pods."""
    current = cluster.get("apps/v1", "Deployment", deployment, namespace)
    return unready.pods_of(cluster, current) if current else []


def missing_mounts(cluster: Cluster, namespace: str, deployment: str) -> list[str]:
    """Return the missing objects that would block a new pod of a Deployment; running pods do not need them."""
    current = cluster.get("apps/v1", "Deployment", deployment, namespace) or {"spec": {}}
    wanted = unready.mounted_objects(current["spec"].get("template", {}))
    return [f"{kind} {namespace}/{name}" for kind, name in wanted if cluster.get("v1", kind, name, namespace) is None]


def published_address(cluster: Cluster, service: tuple[str, str], ingress: str) -> IPv4Address | Pending:
    """Return the address of the ingress controller's Service once the controller has written it into an Ingress."""
    address = load_balancer_address(cluster, *service)
    current = cluster.get(*ROUTE, ingress, "default")
    if isinstance(address, Pending):
        return address
    if current is None:
        return Pending(f"there is no Ingress default/{ingress}")
    return address if address in addresses_of(current) else Pending(f"the ingress controller has not written {address}")


def ready_containers(cluster: Cluster, node: str) -> dict[str, set[str]]:
    """Return the container ids of each of a node's pods that is reported as ready."""
    pods = cluster.find("v1", "Pod", fields=f"spec.nodeName={node}")
    return {pod["metadata"]["name"]: _containers(pod) for pod in pods if unready.is_ready(pod)}


def _containers(pod: dict[str, Any]) -> set[str]:
    """Return the ids of a pod's running containers, without the runtime's prefix."""
    statuses: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses", [])
    return {each["containerID"].rpartition("//")[2] for each in statuses if each.get("containerID")}


def has_event(cluster: Cluster, namespace: str, service: str) -> bool:
    """Return whether there is an event about a Service of this name."""
    about = {"kind": "Service", "name": service}.items()
    return any(about <= event["involvedObject"].items() for event in cluster.find("v1", "Event", namespace))


def _last_warning(cluster: Cluster, service: Mapping[str, Any]) -> str:
    """Return the last warning about a Service, but not about a deleted one of the same name: events outlive objects."""
    metadata = service["metadata"]
    about = {"kind": "Service", "name": metadata["name"], "uid": metadata.get("uid")}.items()
    warnings = cluster.find("v1", "Event", metadata["namespace"], fields="type=Warning")
    matching = [event for event in warnings if about <= {"uid": None, **event["involvedObject"]}.items()]
    newest = max(matching, key=lambda event: event.get("lastTimestamp") or "", default={})
    return str(newest.get("message", ""))
