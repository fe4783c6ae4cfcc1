"""Read the ingress controller's pods, and the pods behind a Service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.cluster import unready
from labctl.host.wait import NOT_READY
from labctl.model.errors import LabError
from labctl.render.ingress import IngressController
from labctl.trace.problem import Evidence
from labctl.trace.rules.routes import Backend

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

SLICE = "discovery.k8s.io/v1"
EXTERNAL = "ExternalName"
NGINX = "ingress-nginx"
OVER = {"Succeeded", "Failed"}


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod is ready and not being deleted."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def is_awaited(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod is expected to become ready."""
    is_over = "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in OVER
    return not is_over and not is_ready(pod)


def why_not_ready(pod: Mapping[str, Any]) -> str:
    """Return the reason from its containers or conditions; empty if the pod is ready or being deleted."""
    if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
        return ""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in status.get("containerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            for how in ("waiting", "terminated"):
                if reason := state.get(how, {}).get("reason"):
                    return f"{name}: {reason}, restarted {container.get('restartCount', 0)} times"
    messages = [each.get("message", "") for each in status.get("conditions", []) if each["status"] != "True"]
    return f"{name}: {next(filter(None, messages), status.get('phase', 'unknown'))}"


def placed(pod: Mapping[str, Any]) -> Evidence:
    """Return the pod's name and its node."""
    return {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName")}


def controller_pods(cluster: Cluster, controller: IngressController) -> list[dict[str, Any]]:
    """Return the pods of the ingress controller."""
    workload = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    if workload is None:
        return []
    return cluster.find("v1", "Pod", controller.namespace, selector_of(workload["spec"]["selector"]["matchLabels"]))


def why_no_controller(cluster: Cluster, controller: IngressController, pods: Iterable[Mapping[str, Any]]) -> str:
    """Return why none of these pods of the ingress controller is ready, and what they wait for."""
    workload = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    known = (
        {each.pod: str(each) for each in unready.problems(cluster, workload) if each.id != NOT_READY}
        if workload
        else {}
    )
    reasons = [known.get(pod["metadata"]["name"]) or why_not_ready(pod) for pod in pods]
    return "; ".join(filter(None, reasons)) or "there is none"


def _is_taken(conditions: Mapping[str, bool], controller: str) -> bool:
    """Return whether an ingress controller forwards requests to an endpoint.

    They differ for a Service that publishes pods that are not ready: its endpoints are `ready`, but not `serving`.
    """
    if controller == NGINX:
        return conditions.get("ready", True)
    return conditions.get("ready", True) and conditions.get("serving", True)


def behind(cluster: Cluster, service: Mapping[str, Any], port: str | int, controller: str) -> Evidence:
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
        if _is_taken(endpoint.get("conditions") or {}, controller)
        for address in endpoint["addresses"][:1]
    }
    names = [endpoint_slice["metadata"]["name"] for endpoint_slice in slices]
    return {**evidence, "endpoint_slices": names, "pods": list(pods.values())}


def port_of(service: Mapping[str, Any], port: str | int) -> dict[str, Any] | None:
    """Return the Service's port that a rule names (default: its first); None if it has none."""
    ports: Sequence[dict[str, Any]] = service["spec"].get("ports") or []
    return next((each for each in ports if port in {"", each.get("name"), each["port"]}), None)


def service_with(cluster: Cluster, address: str) -> Backend | None:
    """Return the Service that has an endpoint with this address; None if there is none."""
    for endpoint_slice in cluster.find(SLICE, "EndpointSlice"):
        for endpoint in endpoint_slice.get("endpoints") or []:
            service = endpoint_slice["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
            if address in endpoint["addresses"] and service:
                return Backend(endpoint_slice["metadata"]["namespace"], service, "")
    return None


def logged(cluster: Cluster, namespace: str, pods: Sequence[Evidence], mark: str) -> str | None:
    """Return the pod whose log, of any container, has the mark of a request; None if none has."""
    return next((pod["pod"] for pod in pods if pod["pod"] and mark in _logs(cluster, pod["pod"], namespace)), None)


def selector_of(labels: Mapping[str, str]) -> str:
    """Return labels as a selector string."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


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
    """Return the number of an EndpointSlice's named port; 0 if it has none, and the controllers skip it."""
    return next((each.get("port") or 0 for each in service.get("ports") or [] if each.get("name") == name), 0)


def _endpoint(endpoint: Mapping[str, Any], address: str, port: int) -> Evidence:
    return {
        "pod": (endpoint.get("targetRef") or {}).get("name"),
        "address": address,
        "port": port,
        "node": endpoint.get("nodeName"),
    }
