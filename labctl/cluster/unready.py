"""Why pods are not ready, in the words of their containers, of their probes and of the scheduler."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labctl.host.wait import NOT_READY
from labctl.model.errors import LabError

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

UNPULLABLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
UNMAKEABLE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
UNSTARTABLE = ("StartError", "ContainerCannotRun")
"""How the end of a container is called whose program is not in its image, or cannot be run."""
EXIT_SECONDS = 30.0
"""How long a container may end again and again; the lab's kubelets start it anew every two seconds."""
QUICK_SECONDS = 30.0
"""A container that ran longer than that before it ended was stopped, by a halt of its node for instance."""
REFUSED = "connection refused"
REFUSED_SECONDS = 30.0
"""How long an app's container may run before it has to listen on its port."""
SETTLING_SECONDS = 15.0
"""How long a pod may lack a node, or what its containers are made from, while other objects are still applied."""
MOUNT_SECONDS = 30.0
LAST_LINES = 12
PASSING = ("probe-fails", "container-exits")
"""What passes by itself where a program only waits for another one, or the machine is slow."""

LOOK = "For details, run `labctl exec -- kubectl -n {namespace} describe pod {pod}`."
HINTS = {
    "image-not-pullable": "`labctl bundle list` shows which images the bundle carries.",
    "container-exits": "`labctl exec -- kubectl -n {namespace} logs {pod} -c {container} --previous` shows its whole log.",
    "probe-fails": "Does it listen on the port that the configuration names, and on every address? " + LOOK,
    "pods-refused": "`labctl exec -- kubectl -n {namespace} get resourcequotas,limitranges` shows what limits them.",
    "pod-unschedulable": "`labctl exec -- kubectl describe nodes` shows what the nodes have left.",
}
"""What to do about a problem; for all others, LOOK."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a pod is not ready."""

    id: str
    pod: str
    text: str
    container: str = ""
    patience: float = math.inf
    """How many seconds it may last before waiting for its end is pointless."""

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.text}" if self.pod else self.text

    def hint(self, namespace: str) -> str:
        """Return what to do about it."""
        return HINTS.get(self.id, LOOK).format(namespace=namespace, pod=self.pod, container=self.container)


def pods_of(cluster: Cluster, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a Deployment's pods that are not going and have not ended; a pod of somebody's own with its labels is none."""
    return [
        pod
        for pod in _awaited(cluster, deployment)
        for owner in pod["metadata"].get("ownerReferences", [])
        if owner["kind"] == "ReplicaSet" and owner["name"].rpartition("-")[0] == deployment["metadata"]["name"]
    ]


def is_ready(pod: dict[str, Any]) -> bool:
    """Return whether the kubelet said last that the pod is ready."""
    return bool(_condition(pod.get("status", {}), "Ready").get("status") == "True")


def problems(cluster: Cluster, deployment: dict[str, Any]) -> list[Problem]:
    """Return why a Deployment's pods are not ready or not there, one problem a pod, those that cannot pass first."""
    pods = [pod for pod in _awaited(cluster, deployment) if not is_ready(pod)]
    events = sorted(
        cluster.find("v1", "Event", deployment["metadata"]["namespace"], fields="type=Warning") if pods else [],
        key=_time,
    )
    reasons = [
        _problem(pod, [event for event in events if event["involvedObject"].get("name") == pod["metadata"]["name"]])
        for pod in pods
    ]
    refused = _condition(deployment.get("status", {}), "ReplicaFailure")
    if refused.get("status") == "True":
        reasons.append(Problem("pods-refused", "", str(refused.get("message", "")), patience=SETTLING_SECONDS))
    return sorted(reasons, key=lambda problem: problem.patience)


def last_lines(cluster: Cluster, namespace: str, problem: Problem) -> tuple[str, ...]:
    """Return the last lines that the container of this problem wrote, each behind the pod's name."""
    if not problem.container:
        return ()
    try:
        written = cluster.log(
            problem.pod, namespace, problem.container, previous=problem.id == "container-exits"
        ).splitlines()
    except LabError as error:
        written = [f"its log cannot be read: {error.message}"]
    return tuple(f"{problem.pod}: {line}" for line in written[-LAST_LINES:])


def _awaited(cluster: Cluster, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pods that a Deployment selects which are not going, and have not gone and wait for nothing more."""
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return [
        pod
        for pod in cluster.find("v1", "Pod", deployment["metadata"]["namespace"], selector)
        if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _problem(pod: dict[str, Any], warnings: list[dict[str, Any]]) -> Problem:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        text = scheduled.get("message") or "no node has been chosen for it"
        return Problem("pod-unschedulable", name, text, patience=SETTLING_SECONDS)
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    container_problems = [problem for each in containers if (problem := _container_problem(name, each, warnings))]
    return min(
        container_problems, key=lambda problem: problem.patience, default=Problem(NOT_READY, name, "it has not started")
    )


def _container_problem(pod: str, status: dict[str, Any], warnings: list[dict[str, Any]]) -> Problem | None:
    state, name = status.get("state", {}), status.get("name", "")
    if waiting := state.get("waiting"):
        return _waiting_problem(pod, status, waiting, warnings)
    if (ended := state.get("terminated")) is not None:
        # An init container that has done its work stays behind like this.
        return (
            _exit_problem(pod, status, ended, warnings) if ended.get("exitCode") or status.get("restartCount") else None
        )
    if status.get("ready"):
        return None
    if _is_quick(ended := _last_end(status)):
        return _exit_problem(pod, status, ended, warnings)
    started = state.get("running", {}).get("startedAt") or ""
    if unhealthy := _unhealthy(warnings, "", started):
        text = str(unhealthy.get("message", "")).strip()
        is_refused = REFUSED in text and text.startswith("Readiness")
        patience = 0.0 if _seconds_between(started, _time(unhealthy)) >= REFUSED_SECONDS else REFUSED_SECONDS
        return Problem("probe-fails", pod, text, name, patience if is_refused else math.inf)
    return Problem(NOT_READY, pod, f"container {name} runs, and is not ready yet", name)


def _waiting_problem(
    pod: str, status: dict[str, Any], waiting: dict[str, Any], warnings: list[dict[str, Any]]
) -> Problem:
    name, reason = status.get("name", ""), waiting.get("reason", "")
    message = waiting.get("message") or reason
    if reason in UNPULLABLE:
        text = f"image {status['image']} is neither in the bundle nor could it be pulled: {message}"
        return Problem("image-not-pullable", pod, text, patience=0)
    if reason in UNMAKEABLE:
        return Problem("container-not-made", pod, f"container {name}: {message}", patience=SETTLING_SECONDS)
    if ended := _last_end(status):
        return _exit_problem(pod, status, ended, warnings)
    if warnings:
        return Problem("pod-not-started", pod, str(warnings[-1].get("message", "")), patience=MOUNT_SECONDS)
    return Problem(NOT_READY, pod, message)


def _exit_problem(pod: str, status: dict[str, Any], ended: dict[str, Any], warnings: list[dict[str, Any]]) -> Problem:
    """Return how a container ended, and the liveness probe's words if that is what ended it."""
    name, reason = status.get("name", ""), ended.get("reason", "")
    text = f"container {name} ends with exit code {ended.get('exitCode')}" + (f" ({reason})" if reason else "")
    probe = _unhealthy(warnings, "Liveness", ended.get("startedAt") or "")
    message = (probe or ended).get("message") or ""
    text += f": {' '.join(str(message).split())}" if message else ""
    return Problem("container-exits", pod, text, name, 0.0 if reason in UNSTARTABLE else EXIT_SECONDS)


def _last_end(status: dict[str, Any]) -> dict[str, Any]:
    ended: dict[str, Any] = status.get("lastState", {}).get("terminated") or {}
    return ended


def _is_quick(ended: dict[str, Any]) -> bool:
    """Return whether a container's run was short; of one that ended with its node not even that is known."""
    began, end = ended.get("startedAt"), ended.get("finishedAt")
    return bool(began and end) and _seconds_between(began, end) < QUICK_SECONDS


def _unhealthy(warnings: list[dict[str, Any]], probe: str, since: str) -> dict[str, Any] | None:
    """Return the newest event of a probe that failed, if one did in the container's present run."""
    failed_probes = [
        event
        for event in warnings
        if event.get("reason") == "Unhealthy"
        and str(event.get("message", "")).startswith(probe)
        and _time(event) >= since.rstrip("Z")
    ]
    return failed_probes[-1] if failed_probes else None


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = status.get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _time(event: dict[str, Any]) -> str:
    """Return when an event was last seen: by whom it was written decides where that stands."""
    when = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
    return str(when).rstrip("Z")  # some have fractions of a second, and order as they are without it


def _seconds_between(begin: str | None, end: str | None) -> float:
    """Return how much later the second time is; both are of the same node's clock."""
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end.rstrip("Z")) - datetime.fromisoformat(begin.rstrip("Z"))).total_seconds()
