"""Read the state of MetalLB's controller, and its events about a Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.cluster import state
from labctl.trace.problem import Evidence

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

API = "metallb.io/v1beta1"
NAMESPACE = "metallb-system"
CONTROLLER = "controller"
CLASS_ARGUMENT = "--lb-class="
KIND = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "ipaddresspools.metallb.io")
EVENT_SOURCE = "metallb-controller"


@dataclass(frozen=True, slots=True)
class Controller:
    """The state of MetalLB's controller, which allocates addresses."""

    not_ready_reason: str = ""
    """Why none of its pods is ready."""
    is_there: bool = True
    load_balancer_class: str | None = None
    """It only serves Services of this class; if it is None, only those without a class."""


def controller(cluster: Cluster) -> Controller:
    """Read the state of MetalLB's controller."""
    deployment = cluster.get("apps/v1", "Deployment", CONTROLLER, NAMESPACE)
    if deployment is None:
        return Controller(f"there is no Deployment {NAMESPACE}/{CONTROLLER}", is_there=False)
    chosen = (each.removeprefix(CLASS_ARGUMENT) for each in arguments(deployment) if each.startswith(CLASS_ARGUMENT))
    return Controller(_not_ready_reason(cluster, deployment), load_balancer_class=next(chosen, "") or None)


def arguments(workload: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a workload's containers."""
    containers = workload.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    return [each for container in containers for each in container.get("args") or ()]


def warning(cluster: Cluster, service: Mapping[str, Any], changed: str) -> Evidence | None:
    """Return the newest warning of MetalLB's controller about the Service since the last change.

    An older one is outdated: the API keeps events for an hour.
    """
    metadata = service["metadata"]
    warnings = [
        event
        for event in cluster.find("v1", "Event", metadata["namespace"], fields="type=Warning")
        if event["involvedObject"].get("kind") == "Service"
        and event["involvedObject"].get("name") == metadata["name"]
        and event["involvedObject"].get("uid") == metadata.get("uid")
        and event.get("source", {}).get("component") == EVENT_SOURCE
    ]
    newest = max(warnings, key=_time, default=None)
    if newest is None or _time(newest) < changed:
        return None
    return {"reason": newest.get("reason", ""), "message": newest.get("message", ""), "time": _time(newest)}


def last_change_time(objects: Sequence[Mapping[str, Any]]) -> str:
    """Return the time of the last change of these objects, status changes excluded."""
    times = [
        str(each.get("time") or "")
        for manifest in objects
        for each in manifest["metadata"].get("managedFields") or ()
        if each.get("subresource") != "status"
    ]
    return max(
        (*times, *(str(manifest["metadata"].get("creationTimestamp") or "") for manifest in objects)), default=""
    )


def _not_ready_reason(cluster: Cluster, deployment: Mapping[str, Any]) -> str:
    if deployment["spec"].get("replicas", 1) == 0:
        return f"the Deployment {NAMESPACE}/{CONTROLLER} has `replicas: 0`"
    if deployment.get("status", {}).get("readyReplicas"):
        return ""
    waiting = state.rollout(cluster, NAMESPACE, CONTROLLER, is_app=False)
    return waiting.reason if waiting else ""


def _time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
