"""From the ingress controller to the app: the controller's pods, and the pods behind a Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.errors import LabError
from labctl.ingress import IngressController
from labctl.trace.problem import Evidence, ProblemError, kubectl
from labctl.trace.rules import Backend

if TYPE_CHECKING:
    from labctl.kube import Cluster

SLICE = "discovery.k8s.io/v1"


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is ready and is to stay."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def why_not_ready(pod: Mapping[str, Any]) -> str:
    """Return what its containers say, or where it waits to run; nothing for one that is ready, or goes."""
    if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
        return ""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in status.get("containerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            for how in ("waiting", "terminated"):
                if reason := state.get(how, {}).get("reason"):
                    return f"{name}: {reason}, restarted {container.get('restartCount', 0)} times"
    told = [each.get("message", "") for each in status.get("conditions", []) if each["status"] != "True"]
    return f"{name}: {next(filter(None, told), status.get('phase', 'unknown'))}"


def placed(pod: Mapping[str, Any]) -> Evidence:
    """Return the pod and the node it runs on."""
    return {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName")}


def controller_pods(cluster: Cluster, controller: IngressController) -> list[dict[str, Any]]:
    """Return the pods of the ingress controller."""
    found = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    if found is None:
        return []
    return cluster.list("v1", "Pod", controller.namespace, _selector(found["spec"]["selector"]["matchLabels"]))


def behind(cluster: Cluster, lab: str, ingress: str, backend: Backend) -> Evidence:
    """Return what is ready behind the Service that an Ingress names. Raises ProblemError."""
    service = _service(cluster, ingress, backend)
    slices = cluster.list(SLICE, "EndpointSlice", backend.namespace, f"kubernetes.io/service-name={backend.service}")
    endpoints = [each for found in slices for each in found.get("endpoints") or []]
    ready = [each for each in endpoints if each.get("conditions", {}).get("ready", True)]
    evidence: Evidence = {
        "namespace": backend.namespace,
        "service": backend.service,
        "endpoint_slices": [found["metadata"]["name"] for found in slices],
        "pods": [_endpoint(each, address) for each in ready for address in each["addresses"][:1]],
    }
    if service["spec"].get("type") == "ExternalName":
        return {**evidence, "external_name": service["spec"].get("externalName", "")}
    if not ready:
        raise _empty(cluster, lab, service, evidence)
    return evidence


def service_with(cluster: Cluster, address: str) -> Backend | None:
    """Return the Service behind which an address is; None where there is none."""
    for found in cluster.list(SLICE, "EndpointSlice"):
        for endpoint in found.get("endpoints") or []:
            service = found["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
            if address in endpoint["addresses"] and service:
                return Backend(found["metadata"]["namespace"], service, "")
    return None


def logged(cluster: Cluster, namespace: str, pods: Sequence[Evidence], mark: str) -> str | None:
    """Return the one of the pods whose log, of any container, has the mark of a request; None where none has."""
    return next((pod["pod"] for pod in pods if pod["pod"] and mark in _logs(cluster, pod["pod"], namespace)), None)


def _logs(cluster: Cluster, pod: str, namespace: str) -> str:
    found = cluster.get("v1", "Pod", pod, namespace)
    containers = [each["name"] for each in found["spec"].get("containers", [])] if found else []
    texts = []
    for container in containers or [""]:
        try:
            texts.append(cluster.log(pod, namespace, container))
        except LabError:  # a container that has not started has no log
            continue
    return "\n".join(texts)


def _service(cluster: Cluster, ingress: str, backend: Backend) -> dict[str, Any]:
    name, port = backend.service, backend.port
    service = cluster.get("v1", "Service", name, backend.namespace)
    if service is None:
        raise ProblemError(
            "backend-service-missing",
            f"the Ingress {ingress} names the Service {name}, and there is none in {backend.namespace}",
        )
    ports = service["spec"].get("ports") or []
    if port and not any(port in {each.get("name"), each["port"]} for each in ports):
        has = ", ".join(str(each.get("name") or each["port"]) for each in ports) or "none"
        raise ProblemError(
            "backend-port-missing", f"the Ingress {ingress} names port {port} of the Service {name}, which has {has}"
        )
    return service


def _empty(cluster: Cluster, lab: str, service: Mapping[str, Any], evidence: Evidence) -> ProblemError:
    """Return why nothing is behind a Service."""
    name, namespace = service["metadata"]["name"], evidence["namespace"]
    selector = _selector(service["spec"].get("selector") or {})
    pods = cluster.list("v1", "Pod", namespace, selector) if selector else []
    if not pods:
        text = f"the selector of the Service {name} ({selector or 'none'}) chooses no pod"
        return ProblemError("selector-matches-nothing", text, evidence)
    reasons = "; ".join(filter(None, map(why_not_ready, pods)))
    return ProblemError(
        "no-pod-ready",
        f"no pod behind the Service {name} is ready: {reasons or 'they are going'}",
        evidence,
        fix="The pod's log says why.",
        commands=(kubectl(lab, "-n", namespace, "logs", pods[0]["metadata"]["name"], "--all-containers"),),
    )


def _endpoint(endpoint: Mapping[str, Any], address: str) -> Evidence:
    return {
        "pod": (endpoint.get("targetRef") or {}).get("name"),
        "address": address,
        "node": endpoint.get("nodeName"),
    }


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
