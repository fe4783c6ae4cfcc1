"""From the ingress controller to the app: its pods, the rule that matches, the Service behind it, and who answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.ingress import IngressController
from labctl.kube import Cluster
from labctl.trace.broken import BrokenHopError, Evidence

CONTROLLERS_OWN = {
    404: "it knows no rule for this name",
    502: "the app refused",
    503: "no pod is behind it",
    504: "the app was too slow",
}
"""What an ingress controller answers itself, where no app can."""
INGRESS = "networking.k8s.io/v1"
UP = "`labctl up` puts it right."
PATH = "/"


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is ready and is to stay."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def why_not_ready(pod: Mapping[str, Any]) -> str:
    """What its containers say, or where it waits to run; empty for one that is ready, or goes."""
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
    """The pod and the node it runs on."""
    return {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName")}


def controller_pods(cluster: Cluster, controller: IngressController) -> list[dict[str, Any]]:
    """The pods of the ingress controller."""
    found = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    if found is None:
        return []
    return cluster.list("v1", "Pod", controller.namespace, _selector(found["spec"]["selector"]["matchLabels"]))


def match(cluster: Cluster, controller: IngressController, hostname: str) -> Evidence:
    """The Ingress, host, path and backend that the controller takes for a hostname. Raises BrokenHopError."""
    ingresses = cluster.list(INGRESS, "Ingress")
    rules = [(ingress, each) for ingress in ingresses for each in ingress["spec"].get("rules", [])]
    named = [(ingress, each) for ingress, each in rules if _host_matches(each.get("host", ""), hostname)]
    named.sort(key=lambda rule: (rule[1].get("host", "") != hostname, "host" not in rule[1]))  # as controllers choose
    if not named:
        hosts = ", ".join(sorted({each.get("host", "*") for _, each in rules})) or "no host"
        raise BrokenHopError(f"no Ingress has a rule for {hostname}; there are rules for {hosts}", UP)
    ours = [
        (ingress, each)
        for ingress, each in named
        if ingress["spec"].get("ingressClassName") == controller.ingress_class
    ]
    if not ours:
        ingress, _ = named[0]
        raise BrokenHopError(
            f"the Ingress {_full_name(ingress)} has the class {ingress['spec'].get('ingressClassName')}; "
            f"{controller.name} serves the class {controller.ingress_class}",
            UP,
        )
    for ingress, each in ours:
        for path in each.get("http", {}).get("paths", []):
            if path.get("path", PATH) == PATH and "service" in path["backend"]:
                service = path["backend"]["service"]
                return {
                    "ingress": _full_name(ingress),
                    "host": each.get("host", "*"),
                    "path": PATH,
                    "class": controller.ingress_class,
                    "backend": {
                        "service": service["name"],
                        "port": service["port"].get("name") or service["port"].get("number"),
                    },
                }
    raise BrokenHopError(f"the Ingress {_full_name(ours[0][0])} has no path {PATH} for {hostname}", UP)


def endpoints(cluster: Cluster, rule: Evidence) -> Evidence:
    """The pods behind the rule's Service that are ready, by its EndpointSlices. Raises BrokenHopError."""
    ingress, namespace = rule["ingress"], rule["ingress"].partition("/")[0]
    name, port = rule["backend"]["service"], rule["backend"]["port"]
    service = cluster.get("v1", "Service", name, namespace)
    if service is None:
        raise BrokenHopError(f"the Ingress {ingress} names the Service {name}, and there is none in {namespace}", UP)
    ports = service["spec"].get("ports", [])
    if not any(port in {each.get("name"), each["port"]} for each in ports):
        has = ", ".join(str(each.get("name") or each["port"]) for each in ports)
        raise BrokenHopError(f"the Ingress {ingress} names port {port} of the Service {name}, which has {has}", UP)
    slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", namespace, f"kubernetes.io/service-name={name}")
    behind = [each for found in slices for each in found.get("endpoints") or []]
    ready = [each for each in behind if each.get("conditions", {}).get("ready")]
    evidence: Evidence = {
        "namespace": namespace,
        "service": name,
        "endpoint_slices": [found["metadata"]["name"] for found in slices],
        "pods": [_endpoint(each) for each in ready],
    }
    if not ready:
        raise _empty(cluster, namespace, service, evidence)
    return evidence


def logged(cluster: Cluster, namespace: str, pods: Sequence[Evidence], mark: str) -> str | None:
    """The one of the pods whose log has the mark of a request; None where none writes such a log."""
    return next((pod["pod"] for pod in pods if mark in cluster.log(pod["pod"], namespace)), None)


def failed(
    controller: IngressController, status: int, namespace: str, answered: str | None, evidence: Evidence
) -> BrokenHopError:
    """Who says that the request failed: the app, or the controller in its place."""
    if answered is not None:
        return BrokenHopError(
            f"the app itself answers {status}, in pod {answered}",
            f"`labctl exec -- kubectl -n {namespace} logs {answered}` says why.",
            evidence,
        )
    who = (
        f"{controller.name} answers {status}: {CONTROLLERS_OWN[status]}"
        if status in CONTROLLERS_OWN
        else f"the answer is {status}"
    )
    return BrokenHopError(
        who,
        f"`labctl exec -- kubectl -n {controller.namespace} logs deploy/{controller.deployment}` says more.",
        evidence,
    )


def _empty(cluster: Cluster, namespace: str, service: Mapping[str, Any], evidence: Evidence) -> BrokenHopError:
    """Why nothing is behind a Service."""
    name, selector = service["metadata"]["name"], _selector(service["spec"].get("selector") or {})
    pods = cluster.list("v1", "Pod", namespace, selector) if selector else []
    if not pods:
        return BrokenHopError(f"the selector of the Service {name} ({selector or 'none'}) chooses no pod", UP, evidence)
    reasons = "; ".join(filter(None, map(why_not_ready, pods)))
    return BrokenHopError(
        f"no pod behind the Service {name} is ready: {reasons or 'they are going'}",
        f"`labctl exec -- kubectl -n {namespace} logs {pods[0]['metadata']['name']}` says why.",
        evidence,
    )


def _endpoint(endpoint: Mapping[str, Any]) -> Evidence:
    return {
        "pod": endpoint.get("targetRef", {}).get("name"),
        "address": endpoint["addresses"][0],
        "node": endpoint.get("nodeName"),
    }


def _host_matches(host: str, hostname: str) -> bool:
    """As Ingress has it: no host is any, and a star stands for one label."""
    if host.startswith("*."):
        return hostname.partition(".")[2] == host[2:]
    return host in {"", hostname}


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _full_name(found: Mapping[str, Any]) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
