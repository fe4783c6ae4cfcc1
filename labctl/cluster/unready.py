"""Find why pods are not ready, from their containers, their probes and the scheduler."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labctl.cluster import pull_policy
from labctl.cluster.selectors import selected_pods
from labctl.host.wait import NOT_READY
from labctl.model.errors import LabError
from labctl.model.limits import Limits

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

PULL_ERRORS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
CREATE_ERRORS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
START_ERRORS = ("StartError", "ContainerCannotRun")
"""Termination reasons of a container whose program is missing or cannot be run."""
REFUSED = "connection refused"
LAST_LINES = 12
NODE_NOT_READY = "node-not-ready"
TRANSIENT = ("probe-fails", "container-exits")
"""Problems that may pass without a fix: a program waits for another one, or the machine is slow."""

DESCRIBE_POD = "For details, run `labctl exec -- kubectl -n {namespace} describe pod {pod}`."
HINTS = {
    "image-not-pullable": "Load it with `labctl image load`; `labctl image list` shows the images that the lab has.",
    "image-pull-policy": "Set `imagePullPolicy: IfNotPresent` for the container: for the tag latest, and without a tag, "
    "the default is Always. Or load the image with another tag.",
    "container-exits": "For its log, run `labctl exec -- kubectl -n {namespace} logs {pod} -c {container} --previous`.",
    "probe-fails": "Check that it listens on the configured port, and on all addresses. " + DESCRIBE_POD,
    "pods-refused": "To see the limits, run `labctl exec -- kubectl -n {namespace} get resourcequotas,limitranges`.",
    "pod-unschedulable": "To see the nodes' free resources, run `labctl exec -- kubectl describe nodes`.",
}
"""The hint for each problem; DESCRIBE_POD for all others."""
POD_LOG = "For the reason, run `labctl exec -- kubectl -n {namespace} logs {pod} -c {container}`."
PROBE_HINTS: Mapping[str, str] = {
    r"statuscode: \d": f"It answers its probe with an error. {POD_LOG}",
    r"(?i)timeout|deadline exceeded|timed out": f"It does not answer its probe in time. {POD_LOG}",
}
"""Hints by patterns for a probe's message; they take precedence over HINTS."""
MAY_START = "It may still be starting: try again in some seconds. "
SCHEDULING_HINTS: Mapping[str, str] = {
    r"node\.kubernetes\.io/(unreachable|not-ready)": "A node is not Ready: `labctl resume` starts one that is not running, "
    "and the pod can then be scheduled.",
    r"node\.kubernetes\.io/unschedulable|were unschedulable": "A node was cordoned: `labctl exec -- kubectl get nodes` shows "
    "which one, and `labctl exec -- kubectl uncordon NODE` makes it schedulable again.",
    r"node\.kubernetes\.io/disk-pressure": "A node's disk is nearly full: free space on this machine's disk.",
    r"node\.kubernetes\.io/(memory|pid)-pressure": "A node is short of memory or of process ids: end programs or pods.",
    r"(untolerated taint \{|Taints: (.*, )?[^ ,]+: )(?!node(-role)?\.kubernetes\.io/)": "A node has a taint that the pod does not "
    "tolerate: `labctl exec -- kubectl taint node NODE KEY-` removes it.",
}
"""Hints by patterns for the scheduler's message; they take precedence over HINTS."""
UNNAMED_TAINTS = "untolerated taint(s)"
"""The scheduler's message about tainted nodes in Kubernetes 1.37, which does not name the taints."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why a pod is not ready."""

    id: str
    pod: str
    text: str
    container: str = ""
    patience: float = math.inf
    """The number of seconds after which waiting longer is pointless."""
    advice: str = ""
    """A hint that replaces the one for this id."""

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.text}" if self.pod else self.text

    def hint(self, namespace: str) -> str:
        """Return the hint for the problem."""
        hint = self.advice or HINTS.get(self.id, DESCRIBE_POD)
        return hint.format(namespace=namespace, pod=self.pod, container=self.container)


def pods_of(cluster: Cluster, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pods that a Deployment owns, except deleted and finished ones; equal labels are not enough."""
    return [
        pod
        for pod in _expected_pods(cluster, deployment)
        for owner in pod["metadata"].get("ownerReferences", [])
        if owner["kind"] == "ReplicaSet" and owner["name"].rpartition("-")[0] == deployment["metadata"]["name"]
    ]


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether the kubelet last reported the pod as ready."""
    return bool(_condition(pod.get("status", {}), "Ready").get("status") == "True")


def has_started(pod: Mapping[str, Any]) -> bool:
    """Return whether a container of the pod runs, or has run."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return any("waiting" not in each.get("state", {}) or each.get("restartCount") for each in statuses)


def mounted_objects(pod: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (kind, name) of the Secrets and ConfigMaps that a pod mounts and cannot start without."""
    volumes = pod.get("spec", {}).get("volumes") or ()
    sources = [("Secret", each.get("secret"), "secretName") for each in volumes]
    sources += [("ConfigMap", each.get("configMap"), "name") for each in volumes]
    return [(kind, source[key]) for kind, source, key in sources if source and not source.get("optional")]


def problems(cluster: Cluster, deployment: dict[str, Any]) -> list[Problem]:
    """Return why a Deployment's pods are missing or not ready: one problem per pod, the least patience first."""
    pods = [pod for pod in _expected_pods(cluster, deployment) if not is_ready(pod)]
    events = sorted(
        cluster.find("v1", "Event", deployment["metadata"]["namespace"], fields="type=Warning") if pods else [],
        key=_time,
    )
    nodes = {node["metadata"]["name"]: node for node in cluster.find("v1", "Node")} if pods else {}
    reasons = [
        _lost_node(pod, nodes)
        or _missing_volume(cluster, pod)
        or _problem(
            cluster.limits,
            pod,
            [event for event in events if event["involvedObject"].get("name") == pod["metadata"]["name"]],
        )
        for pod in pods
    ]
    reasons = [_with_taints(cluster, _with_policy(cluster, reason, pods)) for reason in reasons]
    refused = _condition(deployment.get("status", {}), "ReplicaFailure")
    if refused.get("status") == "True":
        reasons.append(Problem("pods-refused", "", str(refused.get("message", "")), patience=cluster.limits.settling))
    return sorted(reasons, key=lambda problem: problem.patience)


def last_lines(cluster: Cluster, namespace: str, problem: Problem) -> tuple[str, ...]:
    """Return the last log lines of this problem's container, each prefixed with the pod's name."""
    if not problem.container:
        return ()
    try:
        written = cluster.log(
            problem.pod, namespace, problem.container, previous=problem.id == "container-exits"
        ).splitlines()
    except LabError as error:
        written = [f"its log cannot be read: {error.message}"]
    return tuple(f"{problem.pod}: {line}" for line in written[-LAST_LINES:])


def _expected_pods(cluster: Cluster, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pods that a Deployment selects and that are neither being deleted nor finished."""
    return [
        pod
        for pod in selected_pods(cluster, deployment)
        if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _lost_node(pod: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> Problem | None:
    """Return the problem that the pod's node is not Ready, so that the pod's other conditions are outdated."""
    name = pod.get("spec", {}).get("nodeName", "")
    ready = _condition(nodes.get(name, {}).get("status", {}), "Ready")
    if ready.get("status", "True") == "True":
        return None
    text = f"its node {name} is not Ready: {ready.get('message') or ready.get('reason', '')}"
    advice = f"Restart the node: `labctl halt {name}`, then `labctl resume`."
    return Problem(NODE_NOT_READY, pod["metadata"]["name"], text, advice=advice)


def _missing_volume(cluster: Cluster, pod: dict[str, Any]) -> Problem | None:
    """Return the missing Secret or ConfigMap that a pod which has not started waits for.

    The kubelet's events report it too, but only at the kubelet's next attempt, up to two minutes later.
    """
    if has_started(pod) or not pod.get("spec", {}).get("nodeName"):
        return None
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    for kind, wanted in mounted_objects(pod):
        if cluster.get("v1", kind, wanted, namespace) is None:
            text = f"it waits for the {kind} {namespace}/{wanted}, which does not exist"
            return Problem("pod-not-started", name, text, patience=cluster.limits.mount)
    return None


def _with_policy(cluster: Cluster, problem: Problem, pods: list[dict[str, Any]]) -> Problem:
    """Name the pull policy as the cause if the image is on the node; return any other problem unchanged."""
    if problem.id != "image-not-pullable":
        return problem
    pod = next(pod for pod in pods if pod["metadata"]["name"] == problem.pod)
    image, node = pull_policy.needlessly_pulled(cluster, pod, PULL_ERRORS)
    if not image:
        return problem
    text = (
        f"image {image} is on {node}, but with imagePullPolicy Always the kubelet pulls it from a registry, which fails"
    )
    return Problem("image-pull-policy", problem.pod, text, patience=0)


def _with_taints(cluster: Cluster, problem: Problem) -> Problem:
    """Add the taints to a scheduler message that only counts them; return any other problem unchanged."""
    if problem.id != "pod-unschedulable" or UNNAMED_TAINTS not in problem.text:
        return problem
    taints = [
        f"{node['metadata']['name']}: {taint['key']}"
        for node in cluster.find("v1", "Node")
        for taint in node.get("spec", {}).get("taints") or ()
        if taint["effect"] != "PreferNoSchedule"
    ]
    text = f"{problem.text} Taints: {', '.join(taints) or 'none by now'}."
    return replace(problem, text=text, advice=_advice(text))


def _advice(text: str) -> str:
    return next((hint for reason, hint in SCHEDULING_HINTS.items() if re.search(reason, text)), "")


def _problem(limits: Limits, pod: dict[str, Any], warnings: list[dict[str, Any]]) -> Problem:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        text = scheduled.get("message") or "it is not scheduled to a node"
        return Problem("pod-unschedulable", name, text, patience=limits.settling, advice=_advice(text))
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    container_problems = [
        problem for each in containers if (problem := _container_problem(limits, name, each, warnings))
    ]
    text = "its containers are ready, but its condition Ready is not True" if has_started(pod) else "it has not started"
    return min(container_problems, key=lambda problem: problem.patience, default=Problem(NOT_READY, name, text))


def _container_problem(
    limits: Limits, pod: str, status: dict[str, Any], warnings: list[dict[str, Any]]
) -> Problem | None:
    state, name = status.get("state", {}), status.get("name", "")
    if waiting := state.get("waiting"):
        return _waiting_problem(limits, pod, status, waiting, warnings)
    if (ended := state.get("terminated")) is not None:
        # A completed init container stays in this state.
        return (
            _exit_problem(limits, pod, status, ended, warnings)
            if ended.get("exitCode") or status.get("restartCount")
            else None
        )
    if status.get("ready"):
        return None
    if _is_quick(limits, ended := _last_end(status)):
        return _exit_problem(limits, pod, status, ended, warnings)
    started = state.get("running", {}).get("startedAt") or ""
    if unhealthy := _unhealthy(warnings, "", started):
        text = str(unhealthy.get("message", "")).strip()
        is_refused = REFUSED in text and text.startswith("Readiness")
        is_late = _seconds_between(started, _time(unhealthy)) >= limits.port_refused
        patience = 0.0 if is_late else limits.port_refused
        hint = next((hint for sign, hint in PROBE_HINTS.items() if re.search(sign, text)), HINTS["probe-fails"])
        advice = hint if is_late else MAY_START + hint
        return Problem("probe-fails", pod, text, name, patience if is_refused else math.inf, advice)
    return Problem(NOT_READY, pod, f"container {name} is running but not ready yet", name)


def _waiting_problem(
    limits: Limits, pod: str, status: dict[str, Any], waiting: dict[str, Any], warnings: list[dict[str, Any]]
) -> Problem:
    name, reason = status.get("name", ""), waiting.get("reason", "")
    message = waiting.get("message") or reason
    if reason in PULL_ERRORS:
        text = f"image {status['image']} is not on the node and cannot be pulled: {message}"
        return Problem("image-not-pullable", pod, text, patience=0)
    if reason in CREATE_ERRORS:
        return Problem("container-not-made", pod, f"container {name}: {message}", patience=limits.settling)
    if ended := _last_end(status):
        return _exit_problem(limits, pod, status, ended, warnings)
    if warnings:
        return Problem("pod-not-started", pod, str(warnings[-1].get("message", "")), patience=limits.mount)
    return Problem(NOT_READY, pod, message)


def _exit_problem(
    limits: Limits, pod: str, status: dict[str, Any], ended: dict[str, Any], warnings: list[dict[str, Any]]
) -> Problem:
    """Return how a container ended, with the liveness probe's message if the probe ended it."""
    name, reason = status.get("name", ""), ended.get("reason", "")
    text = f"container {name} exits with code {ended.get('exitCode')}" + (f" ({reason})" if reason else "")
    probe = _unhealthy(warnings, "Liveness", ended.get("startedAt") or "")
    message = (probe or ended).get("message") or ""
    text += f": {' '.join(str(message).split())}" if message else ""
    return Problem("container-exits", pod, text, name, 0.0 if reason in START_ERRORS else limits.pod_exits)


def _last_end(status: dict[str, Any]) -> dict[str, Any]:
    ended: dict[str, Any] = status.get("lastState", {}).get("terminated") or {}
    return ended


def _is_quick(limits: Limits, ended: dict[str, Any]) -> bool:
    """Return whether a container's run was short; False if it ended with its node."""
    began, end = ended.get("startedAt"), ended.get("finishedAt")
    return bool(began and end) and _seconds_between(began, end) < limits.quick_exit


def _unhealthy(warnings: list[dict[str, Any]], probe: str, since: str) -> dict[str, Any] | None:
    """Return the newest event of a failed probe in the container's current run; None if there is none."""
    failed_probes = [
        event
        for event in warnings
        if event.get("reason") == "Unhealthy"
        and str(event.get("message", "")).startswith(probe)
        and _time(event) >= since.rstrip("Z")
    ]
    return failed_probes[-1] if failed_probes else None


def _condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = status.get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _time(event: dict[str, Any]) -> str:
    """Return when an event was last seen; the field depends on the event's source."""
    when = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
    return str(when).rstrip("Z")  # without the Z, times with and without fractions sort correctly


def _seconds_between(begin: str | None, end: str | None) -> float:
    """Return the seconds between two times of the same node's clock."""
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end.rstrip("Z")) - datetime.fromisoformat(begin.rstrip("Z"))).total_seconds()
