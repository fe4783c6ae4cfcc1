"""Find why a rule's Service is missing or has no ready pods, and which value would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.cluster import unready
from labctl.cluster.selectors import label_selector
from labctl.model.hints import with_lab_name
from labctl.trace.backend import EXTERNAL, is_expected, is_ready, port_of
from labctl.trace.problem import (
    UP,
    WARNING,
    Evidence,
    ProblemError,
    kubectl,
    kubectl_route,
    labctl,
    patch_service,
)
from labctl.trace.rules.routes import Backend, full_name

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

WORKLOADS = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"))
OWN_SERVICE = "kubernetes"
"""The API server's Service, which is never a suggested backend."""


@dataclass(frozen=True, slots=True)
class Place:
    """A backend in an Ingress, with the problems and fixes for it."""

    cluster: Cluster
    lab: str
    ingress: str
    at: str
    """The backend's JSON pointer within the Ingress."""
    is_own: bool
    """Whether labctl made the Ingress and its Service, so that `labctl up` restores them."""

    def problem(
        self, cause: str, text: str, evidence: Evidence | None = None, *, fix: str, commands: Sequence[str] = ()
    ) -> ProblemError:
        """Return a problem that `labctl up` fixes if the objects are labctl's, and otherwise these commands."""
        if self.is_own:
            return ProblemError(cause, text, evidence, fix=UP, commands=(labctl(self.lab, "up"),))
        return ProblemError(cause, text, evidence, fix=fix, commands=tuple(commands))

    def patch(self, part: str, value: object) -> str:
        """Return the command that sets a field of the backend."""
        change = json.dumps([{"op": "replace", "path": f"{self.at}/{part}", "value": value}], separators=(",", ":"))
        return kubectl_route(self.lab, "patch", self.ingress, "--type=json", "-p", change)


def service(place: Place, backend: Backend) -> dict[str, Any]:
    """Return the Service of a rule. Raises ProblemError if it or its port is missing."""
    name, namespace, port = backend.service, backend.namespace, backend.port
    current = place.cluster.get("v1", "Service", name, namespace)
    if current is None:
        others = [each["metadata"]["name"] for each in place.cluster.find("v1", "Service", namespace)]
        others = [each for each in others if each != OWN_SERVICE]
        known = f"its Services are {', '.join(others)}" if others else "it has no Service"
        text = f"the Ingress {place.ingress} routes to the Service {name}, which does not exist in {namespace}; {known}"
        commands = [place.patch("service/name", others[0])] if len(others) == 1 else []
        fix = f"Let the Ingress {place.ingress} route to an existing Service, or create the Service {name}."
        raise place.problem("backend-service-missing", text, fix=fix, commands=commands)
    ports = current["spec"].get("ports") or []
    if port_of(current, port) is None and current["spec"].get("type") != EXTERNAL:
        has = ", ".join(str(each.get("name") or each["port"]) for each in ports) or "none"
        text = f"the Ingress {place.ingress} routes to port {port} of the Service {name}, whose ports are {has}"
        commands = [place.patch("service/port", {"number": ports[0]["port"]})] if len(ports) == 1 else []
        fix = f"Let the Ingress {place.ingress} route to a port of the Service {name}."
        raise place.problem("backend-port-missing", text, fix=fix, commands=commands)
    return dict(current)


def without_ready_pods(place: Place, service: Mapping[str, Any], port: str | int, evidence: Evidence) -> ProblemError:
    """Return why no pod behind a Service is ready."""
    name, namespace = service["metadata"]["name"], evidence["namespace"]
    selector: Mapping[str, str] = service["spec"].get("selector") or {}
    pods = place.cluster.find("v1", "Pod", namespace)
    chosen = [pod for pod in pods if selector and selector.items() <= (pod["metadata"].get("labels") or {}).items()]
    if not chosen:
        return _workload_without_pods(place, selector, evidence) or _unselected_pods(place, service, pods, evidence)
    if any(map(is_ready, chosen)):
        return _missing_endpoints(place, service, port_of(service, port) or {}, chosen, evidence)
    reasons = _reasons(place.cluster, namespace, selector)
    end = "they are being deleted" if any(map(_is_terminating, chosen)) else "they have ended"
    text = f"no pod behind the Service {name} is ready: {'; '.join(map(str, reasons)) or end}"
    fix = f"For details, run `{kubectl(place.lab, '-n', namespace, 'get', 'pods')}`."
    fix = with_lab_name(reasons[0].hint(namespace), place.lab) if reasons else fix
    return ProblemError("no-pod-ready", text, evidence, fix=fix, commands=())


def _reasons(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[unready.Problem]:
    """Return why pods with these labels are not ready, except pods that are terminating or have ended."""
    pods = {"metadata": {"namespace": namespace}, "spec": {"selector": {"matchLabels": labels}}}
    return unready.problems(cluster, pods)


def partly_ready(cluster: Cluster, lab: str, service: Mapping[str, Any], evidence: Evidence) -> ProblemError | None:
    """Return a problem if some pods behind a Service are not ready while others are."""
    selector = service["spec"].get("selector")
    if not selector:
        return None
    name, namespace = service["metadata"]["name"], evidence["namespace"]
    awaited = [pod for pod in cluster.find("v1", "Pod", namespace, label_selector(selector)) if is_expected(pod)]
    if not awaited:
        return None
    reasons = _reasons(cluster, namespace, selector)
    total = len(awaited) + len(evidence["pods"])
    details = "; ".join(map(str, reasons)) or ", ".join(pod["metadata"]["name"] for pod in awaited)
    return ProblemError(
        "pods-not-all-ready",
        f"{len(awaited)} of {total} pods behind the Service {name} are not ready: {details}",
        evidence,
        fix=with_lab_name(reasons[0].hint(namespace), lab) if reasons else "They may still be starting. Trace again.",
        commands=(),
        state=WARNING,
    )


def _workload_without_pods(place: Place, selector: Mapping[str, str], evidence: Evidence) -> ProblemError | None:
    """Return why the workload of the Service's pods has no pods; None if there is no such workload."""
    namespace, name = evidence["namespace"], evidence["service"]
    for api_version, kind in WORKLOADS if selector else ():
        for workload in place.cluster.find(api_version, kind, namespace):
            labels = workload["spec"].get("template", {}).get("metadata", {}).get("labels") or {}
            if not selector.items() <= labels.items():
                continue
            title = f"{kind} {full_name(workload)}"
            if workload["spec"].get("replicas") == 0:
                text = f"the {title}, whose pods the Service {name} selects, has `replicas: 0`"
                words = ("-n", namespace, "scale", kind.lower(), workload["metadata"]["name"], "--replicas=1")
                commands = (kubectl(place.lab, *words),)
                return place.problem("no-pods-wanted", text, evidence, fix="Scale it up.", commands=commands)
            reasons = "; ".join(map(str, unready.problems(place.cluster, workload))) or "it has no pods yet"
            text = f"the {title}, whose pods the Service {name} selects, has no pods: {reasons}"
            fix = f"For details, run `{kubectl(place.lab, '-n', namespace, 'describe', kind.lower(), workload['metadata']['name'])}`."
            return ProblemError("no-pod-ready", text, evidence, fix=fix, commands=())
    return None


def _unselected_pods(
    place: Place, service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], evidence: Evidence
) -> ProblemError:
    """Return the problem that a selector matches no pod, with the change that would match if there is exactly one."""
    name, selector = service["metadata"]["name"], service["spec"].get("selector") or {}
    written = ",".join(f"{key}={value}" for key, value in selector.items()) or "none"
    text = f"the selector of the Service {name} ({written}) matches no pod"
    change = _matching_change(
        selector, [pod["metadata"].get("labels") or {} for pod in pods if not _is_terminating(pod)]
    )
    if change is None or (place.is_own and None not in change.values()):
        fix = f"Set the `selector` of the Service {name} to the labels of its pods, or add these labels to the pods."
        return place.problem("selector-matches-nothing", text, evidence, fix=fix)
    command = patch_service(place.lab, service, {"spec": {"selector": change}})
    [(key, value)] = change.items()
    fix = f"The pods there have {key}={value}." if value else f"The pods there have no label {key}."
    return ProblemError("selector-matches-nothing", text, evidence, fix=fix, commands=(command,))


def _matching_change(selector: Mapping[str, str], labels: Sequence[Mapping[str, str]]) -> dict[str, str | None] | None:
    """Return the only change by which a selector matches pods; None if there is none, or several."""
    changes: list[dict[str, str | None]] = []
    for key in selector:
        rest = {other: value for other, value in selector.items() if other != key}
        values = {each.get(key) for each in labels if rest.items() <= each.items() and (rest or key in each)}
        changes += [{key: value} for value in values]
    return changes[0] if len(changes) == 1 else None


def _is_terminating(pod: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _missing_endpoints(
    place: Place,
    service: Mapping[str, Any],
    port: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    evidence: Evidence,
) -> ProblemError:
    """Return why ready pods are in no EndpointSlice: a wrong targetPort, or no controller that lists them."""
    name, target = service["metadata"]["name"], port.get("targetPort", "")
    ports = {
        str(each.get("name") or each["containerPort"])
        for pod in pods
        for container in pod["spec"].get("containers", [])
        for each in container.get("ports") or []
    }
    if isinstance(target, str) and target and target not in ports:
        has = ", ".join(sorted(ports)) or "none"
        text = f"the targetPort of the Service {name} is {target}, but its pods' ports are {has}"
        fix = f"Set the targetPort of the Service {name} to a port of its pods."
        commands = [retarget(place.lab, service, port, next(iter(ports)))] if len(ports) == 1 else []
        return place.problem("target-port-missing", text, evidence, fix=fix, commands=commands)
    ready = ", ".join(pod["metadata"]["name"] for pod in pods if is_ready(pod))
    return ProblemError(
        "endpoints-missing",
        f"no EndpointSlice of the Service {name} lists its ready pods: {ready}",
        evidence,
        fix="kube-controller-manager maintains EndpointSlices. To see whether it is running, run "
        f"`{kubectl(place.lab, '-n', 'kube-system', 'get', 'pods')}`.",
        commands=(),
    )


def retarget(lab: str, service: Mapping[str, Any], port: Mapping[str, Any], target: str) -> str:
    """Return the command that sets the targetPort of a Service's port to a number or a name."""
    number = (service["spec"].get("ports") or []).index(port)
    value: str | int = int(target) if target.isdigit() else target
    change = [{"op": "replace", "path": f"/spec/ports/{number}/targetPort", "value": value}]
    return patch_service(lab, service, change, "json")
