"""Read the ingress controller's pods, and the pods behind a Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.cluster import unready
from labctl.cluster.selectors import selected_pods
from labctl.model.errors import LabError
from labctl.render.ingress import IngressController
from labctl.trace.problem import Evidence
from labctl.trace.rules.annotations import NGINX
from labctl.trace.rules.routes import Backend

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

SLICE = "discovery.k8s.io/v1"
EXTERNAL = "ExternalName"
OVER = {"Succeeded", "Failed"}


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod is ready and not being deleted."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def is_expected(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod is expected to become ready."""
    is_over = "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in OVER
    return not is_over and not is_ready(pod)


def pod_evidence(pod: Mapping[str, Any]) -> Evidence:
    """Return the pod's name and its node."""
    return {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName")}


def controller_pods(cluster: Cluster, controller: IngressController) -> list[dict[str, Any]]:
    """Return the pods of the ingress controller."""
    workload = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    return [] if workload is None else selected_pods(cluster, workload)


def log_sources(
    controller: IngressController, pods: Sequence[Mapping[str, Any]], announcing: str | None
) -> list[Evidence]:
    """Return the pods of the ingress controller, each with its container, that may have logged a request.

    Pods on the announcing node come first. Pods elsewhere that are not ready are left out, unless no other pod is left:
    they received no request, and the kubelet of a frozen node would keep the API server waiting.
    """
    there = [pod for pod in pods if pod["spec"].get("nodeName") == announcing]
    elsewhere = [pod for pod in pods if pod not in there and is_ready(pod)]
    return [
        {"pod": pod["metadata"]["name"], "container": _own_container(controller, pod)}
        for pod in there + elsewhere or pods
    ]


def _own_container(controller: IngressController, pod: Mapping[str, Any]) -> str:
    """Return the container in which the ingress controller runs; empty if the pod has no other."""
    containers = pod["spec"].get("containers") or ()
    own = (each["name"] for each in containers if controller.publish_argument in (each.get("args") or ()))
    return str(next(own, "")) if len(containers) > 1 else ""


def no_controller_reason(cluster: Cluster, controller: IngressController) -> str:
    """Return why no pod of the ingress controller is ready."""
    workload = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    reasons = unready.problems(cluster, workload) if workload else []
    return "; ".join(map(str, reasons)) or "it has no pods"


def _is_used(conditions: Mapping[str, bool], controller: str) -> bool:
    """Return whether an ingress controller forwards requests to an endpoint.

    The controllers differ for a Service with `publishNotReadyAddresses`: the endpoints of its pods that are not ready
    are `ready`, but not `serving`.
    """
    if controller == NGINX:
        return conditions.get("ready", True)
    return conditions.get("ready", True) and conditions.get("serving", True)


def endpoints_behind(cluster: Cluster, service: Mapping[str, Any], port: str | int, controller: str) -> Evidence:
    """Return the endpoints behind a port of a Service to which an ingress controller forwards requests."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    evidence: Evidence = {"namespace": namespace, "service": name, "endpoint_slices": [], "pods": []}
    if service["spec"].get("type") == EXTERNAL:
        return {**evidence, "external_name": service["spec"].get("externalName", "")}
    slices = cluster.find(SLICE, "EndpointSlice", namespace, f"kubernetes.io/service-name={name}")
    wanted = (port_of(service, port) or {}).get("name", "")
    pods = {
        address: _endpoint(endpoint, address, number)
        for endpoint_slice in slices
        if (number := _number(endpoint_slice, wanted))
        for endpoint in endpoint_slice.get("endpoints") or []
        if _is_used(endpoint.get("conditions") or {}, controller)
        for address in endpoint["addresses"][:1]
    }
    names = [endpoint_slice["metadata"]["name"] for endpoint_slice in slices]
    return {**evidence, "endpoint_slices": names, "pods": list(pods.values())}


def port_of(service: Mapping[str, Any], port: str | int) -> dict[str, Any] | None:
    """Return the Service's port that a rule names (default: its first); None if there is no such port."""
    ports: Sequence[dict[str, Any]] = service["spec"].get("ports") or []
    return next((each for each in ports if port in {"", each.get("name"), each["port"]}), None)


def find_service(cluster: Cluster, address: str) -> Backend | None:
    """Return the Service that has an endpoint with this address; None if there is none."""
    for endpoint_slice in cluster.find(SLICE, "EndpointSlice"):
        for endpoint in endpoint_slice.get("endpoints") or []:
            service = endpoint_slice["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
            if address in endpoint["addresses"] and service:
                return Backend(endpoint_slice["metadata"]["namespace"], service, "")
    return None


def pod_that_logged(cluster: Cluster, namespace: str, pods: Sequence[Evidence], mark: str) -> str | None:
    """Return the pod that logged the mark of a request, in any container; None if no pod did."""
    return next((pod["pod"] for pod in pods if pod["pod"] and mark in _logs(cluster, pod["pod"], namespace)), None)


def _logs(cluster: Cluster, pod: str, namespace: str) -> str:
    current = cluster.get("v1", "Pod", pod, namespace)
    containers = [each["name"] for each in current["spec"].get("containers", [])] if current else []
    texts = []
    for container in containers or [""]:
        try:
            texts.append(cluster.log(pod, namespace, container))
        except LabError:  # a container that has not started has no log
            continue
    return "\n".join(texts)


def _number(service: Mapping[str, Any], name: str) -> int:
    """Return the number of an EndpointSlice's named port; 0 if it has none, so that controllers skip the slice."""
    return next((each.get("port") or 0 for each in service.get("ports") or [] if each.get("name") == name), 0)


def _endpoint(endpoint: Mapping[str, Any], address: str, port: int) -> Evidence:
    return {
        "pod": (endpoint.get("targetRef") or {}).get("name"),
        "address": address,
        "port": port,
        "node": endpoint.get("nodeName"),
    }
