"""Objects of apps in a cluster: find those that labctl applied, remove obsolete ones, and spread pods over the nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labctl.cluster import unready
from labctl.cluster.state import not_ready_reason
from labctl.model.errors import RefusedError
from labctl.model.kinds import ROUTE, Kind
from labctl.model.lab import FIELD_MANAGER, Lab

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster, Manifest

APP_KINDS = (ROUTE, Kind("v1", "Service"), Kind("apps/v1", "Deployment"))
MANAGED = "app.kubernetes.io/managed-by=labctl"
DENIED = "denied the request"
"""The API server's message when an admission webhook rejects a request."""
_TAKEN = re.compile(r"is already defined in ingress (?P<namespace>[^/\s]+)/(?P<name>\S+)")
_ANNOTATION = re.compile(rf"{DENIED}: (?P<key>\S+/\S+) annotation")


def is_applied_by_labctl(manifest: Mapping[str, Any]) -> bool:
    """Return whether labctl applied the object, according to its managedFields.

    Labels are no proof: a copied object has the same ones.
    """
    managers = manifest["metadata"].get("managedFields", [])
    return any((each.get("manager"), each.get("operation")) == (FIELD_MANAGER, "Apply") for each in managers)


def refuse_foreign_objects(cluster: Cluster, manifests: Iterable[Manifest]) -> None:
    """Refuse to take over objects that labctl did not create. Raises RefusedError `object-not-ours`."""
    for manifest in manifests:
        kind, metadata = manifest["kind"], manifest["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace")
        existing = cluster.get(manifest["apiVersion"], kind, name, namespace)
        if existing is not None and not is_applied_by_labctl(existing):
            raise RefusedError(
                f"{kind} {namespace}/{name} already exists, and labctl did not create it",
                id="object-not-ours",
                hint="Give the app another `name` in labctl.yaml; or, if the object is not needed, run "
                f"`labctl exec -- kubectl -n {namespace} delete {kind.lower()} {name}`.",
            )


def require_accepted(cluster: Cluster, app: str, manifests: Iterable[Manifest], *, is_written: bool = True) -> None:
    """Check by a dry run that the ingress controller's webhook accepts an app's Ingress.

    `is_written` tells whether labctl.yaml has the app already. Raises RefusedError `ingress-refused` if the webhook
    rejects the Ingress, and NotReadyError `webhook-not-ready` while it does not answer.
    """
    for manifest in manifests:
        if manifest["kind"] != ROUTE.name:
            continue
        try:
            cluster.accepts(manifest)
        except RefusedError as error:
            if DENIED not in error.message:
                raise
            raise RefusedError(
                f"the app {app} is not deployed: {error.message}",
                id="ingress-refused",
                hint=_rejection_hint(app, manifest["metadata"]["namespace"], error.message, is_written=is_written),
            ) from error


def _rejection_hint(app: str, namespace: str, message: str, *, is_written: bool) -> str:
    """Return the hint for an Ingress that the ingress controller rejects."""
    remove = f"; or, to leave the app out, run `labctl app remove {app}`." if is_written else "."
    if taken := _TAKEN.search(message):
        other = f"kubectl -n {taken['namespace']} delete ingress {taken['name']}"
        return f"Give the app another hostname; or, if the other Ingress is not needed, run `labctl exec -- {other}`{remove}"
    if annotation := _ANNOTATION.search(message):
        line = f"kubectl -n {namespace} annotate ingress {app} {annotation['key']}-"
        return f"Remove the annotation: `labctl exec -- {line}`{remove}"
    return f"Change the app in labctl.yaml as the message says{remove}"


def remove_obsolete_apps(cluster: Cluster, lab: Lab) -> list[str]:
    """Remove the objects that labctl applied for apps that the lab no longer has; return each as kind/name."""
    names = {app.name for app in lab.apps}
    return [
        f"{kind}/{existing['metadata']['name']}"
        for api_version, kind in APP_KINDS
        for existing in cluster.find(api_version, kind, "default", MANAGED)
        if existing["metadata"]["name"] not in names
        and is_applied_by_labctl(existing)
        and cluster.delete(api_version, kind, existing["metadata"]["name"], "default")
    ]


def spread_pods(cluster: Cluster, lab: Lab, app: str) -> list[str]:
    """Delete pods of an app until they are spread evenly over the nodes that can take them; return those pods.

    Kubernetes does not rebalance running pods: after a node failure, they stay on the nodes that took them over.
    """
    live = {node["metadata"]["name"]: node for node in cluster.find("v1", "Node")}
    names = [node.name for node in lab.serving_nodes if _accepts_pods(live.get(node.name))]
    pods: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    current = cluster.get("apps/v1", "Deployment", app, "default")
    for pod in unready.pods_of(cluster, current) if current else ():
        node = pod["spec"].get("nodeName")
        if node in pods:
            pods[node].append(pod)
    crowded = []
    counts = {node: len(node_pods) for node, node_pods in pods.items()}
    while counts and max(counts.values()) > min(counts.values()) + 1:
        fullest, emptiest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        counts[fullest] -= 1
        counts[emptiest] += 1
        crowded.append(pods[fullest].pop()["metadata"]["name"])
    return [name for name in crowded if cluster.delete("v1", "Pod", name, "default")]


def _accepts_pods(node: dict[str, Any] | None) -> bool:
    """Return whether the node accepts an app's pods: Ready, not cordoned, and without a taint against them."""
    if node is None or not_ready_reason(node):
        return False
    spec = node.get("spec", {})
    repels = {taint["effect"] for taint in spec.get("taints") or ()} & {"NoSchedule", "NoExecute"}
    return not repels and not spec.get("unschedulable")
