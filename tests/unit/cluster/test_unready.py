"""Why the pods of a Deployment are not ready: the states in Kubernetes, and the problems that labctl derives."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fakes import FakeCluster, owned_by
from golden_files import Golden

from labctl.cluster import state as cluster_state
from labctl.cluster import unready
from labctl.host.wait import Pending
from labctl.model.errors import RefusedError
from labctl.model.limits import NORMAL

LABELS = {"app": "shop"}
STARTED = "2026-11-25T10:00:00Z"
LATER = "2026-11-25T10:00:04Z"
BEFORE = "2026-11-25T09:00:00Z"
REFUSED = "Readiness probe failed: dial tcp 10.244.1.5:80: connect: connection refused"
CRASHED = {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": BEFORE, "finishedAt": BEFORE}}
NOT_FOUND = {"terminated": {"exitCode": 128, "reason": "StartError", "message": 'exec: "serve":\n not found'}}


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with a Deployment of two pods, none of which is ready."""
    fake = FakeCluster()
    _add_deployment(fake)
    return fake


def _add_deployment(cluster: FakeCluster, **status: Any) -> None:  # noqa: ANN401 - fields of a status
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}}
    cluster.put("apps/v1", "Deployment", "shop", "default", metadata={"generation": 1}, spec=spec, status=status)


def _add_pod(
    cluster: FakeCluster,
    name: str = "shop-1",
    *,
    metadata: dict[str, str] | None = None,
    **status: Any,  # noqa: ANN401 - fields of a status
) -> None:
    cluster.put(
        "v1", "Pod", name, "default", metadata={"labels": LABELS, **owned_by("shop"), **(metadata or {})}, status=status
    )


def _container(name: str = "web", restarts: int = 0, **state: Any) -> dict[str, Any]:  # noqa: ANN401 - a state
    last = state.pop("last", {})
    return {"name": name, "image": "shop:9", "restartCount": restarts, "lastState": last, "state": state}


def _add_event(cluster: FakeCluster, reason: str, message: str, pod: str = "shop-1", **when: str) -> None:
    about = {"kind": "Pod", "name": pod}
    name = f"{pod}.{len(cluster.objects)}"
    times = when or {"lastTimestamp": LATER}
    cluster.put(
        "v1", "Event", name, "default", type="Warning", reason=reason, message=message, involvedObject=about, **times
    )


def _pending(cluster: FakeCluster) -> Pending:
    pending = cluster_state.rollout(cluster, "default", "shop")
    assert pending is not None
    return pending


@pytest.mark.parametrize(("operator", "problems"), [("In", ["shop-1"]), ("NotIn", [])])
def test_pods_selected_by_expressions_belong_to_the_deployment(
    cluster: FakeCluster, operator: str, problems: list[str]
) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": operator, "values": ["shop"]}]}
    cluster.objects["apps/v1", "Deployment", "default", "shop"]["spec"]["selector"] = selector
    _add_pod(cluster)

    problems_found = unready.problems(cluster, cluster.objects["apps/v1", "Deployment", "default", "shop"])

    assert [problem.pod for problem in problems_found] == problems


BACK_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 2s restarting failed container=web pod=shop-1_default"}


def test_a_missing_secret_is_named_before_the_kubelet_reports_it(cluster: FakeCluster) -> None:
    volumes = [
        {"name": "page", "configMap": {"name": "page", "optional": True}},
        {"name": "certificate", "secret": {"secretName": "certificate"}},
    ]
    _add_pod(cluster, containerStatuses=[_container(waiting={"reason": "ContainerCreating"})])
    cluster.objects["v1", "Pod", "default", "shop-1"]["spec"] = {"nodeName": "demo-worker-1", "volumes": volumes}

    pending = _pending(cluster)
    assert (pending.id, pending.patience) == ("pod-not-started", NORMAL.mount)
    assert "Secret default/certificate" in pending.reason

    cluster.put("v1", "Secret", "certificate", "default")
    assert _pending(cluster).id == "not-ready"


@pytest.mark.parametrize(("status", "identity"), [("Unknown", "node-not-ready"), ("True", "not-ready")])
def test_an_unready_pod_on_a_lost_node_is_reported_as_a_problem_of_the_node(
    cluster: FakeCluster, status: str, identity: str, golden: Golden
) -> None:
    running = {**_container(running={"startedAt": STARTED}), "ready": True}
    _add_pod(cluster, conditions=[{"type": "Ready", "status": "False"}], containerStatuses=[running])
    cluster.objects["v1", "Pod", "default", "shop-1"]["spec"] = {"nodeName": "demo-worker-1"}
    conditions = [{"type": "Ready", "status": status, "message": "Kubelet stopped posting node status."}]
    cluster.put("v1", "Node", "demo-worker-1", status={"conditions": conditions})

    pending = _pending(cluster)

    assert pending.id == identity
    golden({"reason": pending.reason, "hint": pending.hint})


@pytest.mark.parametrize("reason", unready.PULL_ERRORS)
def test_an_image_that_cannot_be_pulled_is_not_waited_for(cluster: FakeCluster, reason: str, golden: Golden) -> None:
    _add_pod(cluster, containerStatuses=[_container(waiting={"reason": reason, "message": "403 Forbidden"})])

    pending = _pending(cluster)

    assert (pending.id, pending.patience) == ("image-not-pullable", 0)
    assert "403 Forbidden" in pending.reason
    golden({"reason": pending.reason, "hint": pending.hint})


@pytest.mark.parametrize(
    ("policy", "image", "identity"),
    [
        ("Always", "docker.io/library/shop:9", "image-pull-policy"),
        ("Always", "docker.io/library/shop:8", "image-not-pullable"),
        ("IfNotPresent", "docker.io/library/shop:9", "image-not-pullable"),
    ],
)
def test_a_pull_of_an_image_that_the_node_has_is_blamed_on_the_pull_policy(
    cluster: FakeCluster, policy: str, image: str, identity: str
) -> None:
    spec = {"nodeName": "node-1", "containers": [{"name": "web", "image": "shop:9", "imagePullPolicy": policy}]}
    _add_pod(cluster, containerStatuses=[_container(waiting={"reason": "ErrImagePull"})])
    cluster.objects["v1", "Pod", "default", "shop-1"]["spec"] = spec
    cluster.put("v1", "Node", "node-1", status={"images": [{"names": [image]}, {"names": None}]})

    assert _pending(cluster).id == identity


@pytest.mark.parametrize(
    ("container", "patience"),
    [
        (_container(terminated=CRASHED["terminated"]), NORMAL.pod_exits),
        (_container(terminated={"exitCode": 0, "reason": "Completed"}, restarts=2), NORMAL.pod_exits),
        (_container(waiting=BACK_OFF, last=CRASHED, restarts=1), NORMAL.pod_exits),
        (_container(waiting=BACK_OFF, last=CRASHED, restarts=46), NORMAL.pod_exits),
        (_container(running={"startedAt": STARTED}, last=CRASHED, restarts=9), NORMAL.pod_exits),
        (_container(waiting=BACK_OFF, last=NOT_FOUND, restarts=1), 0),
    ],
    ids=["crashed", "completed", "backs off", "backs off for a long time", "runs again", "cannot start"],
)
def test_a_container_that_keeps_exiting_is_given_up_after_a_while(
    cluster: FakeCluster, container: dict[str, Any], patience: float, golden: Golden
) -> None:
    _add_pod(cluster, containerStatuses=[container])

    pending = _pending(cluster)

    assert (pending.id, pending.patience) == ("container-exits", patience)
    assert "kubectl -n default logs shop-1 -c web --previous" in pending.hint
    golden({"reason": pending.reason, "hint": pending.hint})


@pytest.mark.parametrize(
    "times", [{"startedAt": BEFORE, "finishedAt": "2026-11-25T09:59:00Z"}, {"startedAt": None, "finishedAt": None}]
)
def test_a_container_restarted_after_a_long_run_or_with_its_node_is_starting(
    cluster: FakeCluster, times: dict[str, str | None]
) -> None:
    stopped = {"terminated": {"exitCode": 137, **times}}
    _add_pod(cluster, containerStatuses=[_container(running={"startedAt": STARTED}, last=stopped, restarts=9)])

    assert _pending(cluster).id == "not-ready"


def test_a_failed_liveness_probe_is_quoted(cluster: FakeCluster, golden: Golden) -> None:
    _add_pod(cluster, containerStatuses=[_container(waiting=BACK_OFF, last={"terminated": {"exitCode": 137}})])
    _add_event(cluster, "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")

    assert "HTTP probe failed with statuscode: 500" in _pending(cluster).reason
    golden(_pending(cluster).reason)


def test_the_reason_and_the_last_log_lines_of_an_exited_container_are_reported(
    cluster: FakeCluster, golden: Golden
) -> None:
    _add_pod(cluster, containerStatuses=[_container(waiting=BACK_OFF, last=NOT_FOUND, restarts=1)])
    cluster.logs["default", "shop-1", "web", "previous"] = "".join(f"line {number}\n" for number in range(40))

    pending = _pending(cluster)

    golden(pending.reason)
    assert pending.details()[0] == "shop-1: line 28"
    assert pending.details()[-1] == "shop-1: line 39"


def test_an_unreadable_log_is_mentioned_in_the_details(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def log(*_arguments: object, **_options: object) -> str:
        raise RefusedError("the pod is gone", id="kubernetes-refused")

    _add_pod(cluster, containerStatuses=[_container(terminated=CRASHED["terminated"])])
    monkeypatch.setattr(cluster, "log", log)

    assert _pending(cluster).details() == ("shop-1: its log cannot be read: the pod is gone",)


@pytest.mark.parametrize(
    ("message", "when", "identity", "patience"),
    [
        (REFUSED, {"lastTimestamp": LATER}, "probe-fails", NORMAL.port_refused),
        (REFUSED, {"eventTime": "2026-11-25T10:00:00.120000Z"}, "probe-fails", NORMAL.port_refused),
        (REFUSED, {"lastTimestamp": "2026-11-25T10:00:29Z"}, "probe-fails", NORMAL.port_refused),
        (REFUSED, {"lastTimestamp": "2026-11-25T10:00:30Z"}, "probe-fails", 0),
        (REFUSED, {"lastTimestamp": BEFORE}, "not-ready", math.inf),
        ("Readiness probe failed: HTTP probe failed with statuscode: 500", {}, "probe-fails", math.inf),
        ("Liveness probe failed: connection refused", {}, "probe-fails", math.inf),
    ],
)
def test_a_failed_readiness_probe_is_quoted(
    cluster: FakeCluster, message: str, when: dict[str, str], identity: str, patience: float
) -> None:
    _add_pod(cluster, containerStatuses=[_container(running={"startedAt": STARTED})])
    _add_event(cluster, "Unhealthy", message, **when)
    _add_event(cluster, "Unhealthy", "of another pod", pod="other")
    cluster.logs["default", "shop-1"] = "listening on 8080\n"

    pending = _pending(cluster)

    assert (pending.id, pending.patience) == (identity, patience)
    assert (message in pending.reason) == (identity == "probe-fails")
    assert pending.details() == ("shop-1: listening on 8080",)


@pytest.mark.parametrize(
    ("message", "helps"),
    [
        (REFUSED, "listens"),
        ("Readiness probe failed: HTTP probe failed with statuscode: 500", "with an error"),
        ('Readiness probe failed: Get "http://10.244.1.5:80/": context deadline exceeded', "in time"),
    ],
)
@pytest.mark.parametrize(("seen", "is_starting"), [(LATER, True), ("2026-11-25T10:00:30Z", False)])
def test_the_hint_for_a_failing_probe_fits_its_failure_and_the_age_of_the_container(
    cluster: FakeCluster, message: str, helps: str, seen: str, *, is_starting: bool
) -> None:
    _add_pod(cluster, containerStatuses=[_container(running={"startedAt": STARTED})])
    _add_event(cluster, "Unhealthy", message, lastTimestamp=seen)

    hint = _pending(cluster).hint

    assert (helps in hint, "still be starting" in hint) == (True, is_starting)
    assert "kubectl -n default " in hint
    assert "shop-1" in hint


def test_a_refused_probe_of_an_infrastructure_pod_is_waited_out(cluster: FakeCluster) -> None:
    _add_pod(cluster, containerStatuses=[_container(running={"startedAt": STARTED})])
    _add_event(cluster, "Unhealthy", REFUSED)

    pending = cluster_state.rollout(cluster, "default", "shop", is_app=False)

    assert pending is not None
    assert (pending.id, pending.patience) == ("probe-fails", math.inf)


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/2 nodes are available: 2 Insufficient memory.",
}


TAINT = "1 node(s) had untolerated taint {{{}: }}"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
CONTROL_PLANES = TAINT.format(CONTROL_PLANE)


@pytest.mark.parametrize(
    ("reasons", "helps"),
    [
        ([CONTROL_PLANES, TAINT.format("node.kubernetes.io/unreachable")], "labctl resume"),
        ([CONTROL_PLANES, TAINT.format("node.kubernetes.io/not-ready")], "labctl resume"),
        (["1 Insufficient memory", TAINT.format("node.kubernetes.io/unreachable")], "labctl resume"),
        ([CONTROL_PLANES, "1 node(s) were unschedulable"], "uncordon"),
        ([CONTROL_PLANES, TAINT.format("node.kubernetes.io/unschedulable")], "uncordon"),
        ([CONTROL_PLANES, TAINT.format("node.kubernetes.io/disk-pressure")], "disk"),
        ([CONTROL_PLANES, TAINT.format("node.kubernetes.io/memory-pressure")], "memory"),
        ([CONTROL_PLANES, TAINT.format("mine")], "kubectl taint node"),
        ([CONTROL_PLANES, "1 Insufficient cpu"], "describe nodes"),
        ([CONTROL_PLANES, "1 node(s) didn't match Pod's node affinity/selector"], "describe nodes"),
    ],
)
def test_the_hint_for_an_unschedulable_pod_fits_the_schedulers_reasons(
    cluster: FakeCluster, reasons: list[str], helps: str
) -> None:
    message = f"0/{len(reasons)} nodes are available: {', '.join(reasons)}."
    _add_pod(cluster, conditions=[{**UNSCHEDULABLE, "message": message}])

    pending = _pending(cluster)

    assert (pending.id, helps in pending.hint) == ("pod-unschedulable", True)


@pytest.mark.parametrize(
    ("taints", "helps"),
    [
        ([("worker-1", "node.kubernetes.io/unreachable", "NoSchedule")], "labctl resume"),
        ([("worker-1", "node.kubernetes.io/not-ready", "NoExecute")], "labctl resume"),
        ([("worker-1", "node.kubernetes.io/disk-pressure", "NoSchedule")], "disk"),
        ([("worker-1", "mine", "NoSchedule")], "kubectl taint node"),
        ([("worker-1", CONTROL_PLANE, "NoSchedule")], "describe nodes"),
        ([("control", CONTROL_PLANE, "NoSchedule"), ("worker-1", "mine", "NoExecute")], "kubectl taint node"),
        ([("worker-1", "node.kubernetes.io/unreachable", "PreferNoSchedule")], "describe nodes"),
        ([], "describe nodes"),
    ],
)
def test_taints_that_the_scheduler_only_counts_are_listed(
    cluster: FakeCluster, taints: list[tuple[str, str, str]], helps: str
) -> None:
    message = "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 Insufficient cpu. no new claims."
    _add_pod(cluster, conditions=[{**UNSCHEDULABLE, "message": message}])
    for node, key, effect in taints:
        cluster.put("v1", "Node", node, spec={"taints": [{"key": key, "effect": effect}]})

    pending = _pending(cluster)

    named = {f"{node}: {key}" for node, key, effect in taints if effect != "PreferNoSchedule"}
    assert (pending.id, helps in pending.hint) == ("pod-unschedulable", True)
    assert all(each in pending.reason for each in named)
    assert ("node.kubernetes.io" in pending.reason) == ("node.kubernetes.io" in str(named))


@pytest.mark.parametrize(
    ("status", "events", "identity", "patience", "expected"),
    [
        ({"conditions": [UNSCHEDULABLE]}, {}, "pod-unschedulable", NORMAL.settling, "2 Insufficient memory"),
        ({"conditions": [{"type": "PodScheduled", "status": "False"}]}, {}, "pod-unschedulable", 15, ""),
        (
            {
                "containerStatuses": [
                    _container(waiting={"reason": "CreateContainerConfigError", "message": 'secret "key" not found'})
                ]
            },
            {},
            "container-not-made",
            NORMAL.settling,
            'secret "key" not found',
        ),
        (
            {"containerStatuses": [_container(waiting={"reason": "ContainerCreating"})]},
            {"FailedMount": 'configmap "page" not found'},
            "pod-not-started",
            NORMAL.mount,
            'configmap "page" not found',
        ),
        (
            {"containerStatuses": [_container(waiting={"reason": "ContainerCreating"})]},
            {},
            "not-ready",
            math.inf,
            "ContainerCreating",
        ),
        (
            {
                "initContainerStatuses": [
                    _container("done", terminated={"exitCode": 0, "reason": "Completed"}),
                    _container("migrate", waiting=BACK_OFF, last=CRASHED),
                ],
                "containerStatuses": [_container(waiting={"reason": "PodInitializing"})],
            },
            {},
            "container-exits",
            NORMAL.pod_exits,
            "migrate",
        ),
        (
            {
                "containerStatuses": [
                    {**_container("sidecar", running={"startedAt": STARTED}), "ready": True},
                    _container(running={"startedAt": STARTED}),
                ]
            },
            {},
            "not-ready",
            math.inf,
            "web",
        ),
        ({}, {}, "not-ready", math.inf, ""),
    ],
    ids=[
        "no room on any node",
        "no node",
        "a Secret is missing",
        "a ConfigMap is missing",
        "a container is being created",
        "an init container crashes",
        "one container of two runs",
        "not started",
    ],
)
def test_a_pod_that_is_not_running_has_a_cause(
    cluster: FakeCluster,
    status: dict[str, Any],
    events: dict[str, str],
    identity: str,
    patience: float,
    expected: str,
    golden: Golden,
) -> None:
    _add_pod(cluster, **status)
    for reason, message in events.items():
        _add_event(cluster, reason, message)

    pending = _pending(cluster)

    assert (pending.id, pending.patience) == (identity, patience)
    assert expected in pending.reason
    assert "shop-1" in pending.reason
    golden(pending.reason)


def test_pods_refused_by_a_quota_are_reported_with_the_quota(cluster: FakeCluster, golden: Golden) -> None:
    message = 'pods "shop-1" is forbidden: exceeded quota: small'
    _add_deployment(cluster, conditions=[{"type": "ReplicaFailure", "status": "True", "message": message}])

    pending = _pending(cluster)

    assert (pending.id, pending.patience) == ("pods-refused", NORMAL.settling)
    assert "exceeded quota: small" in pending.reason
    golden({"reason": pending.reason, "hint": pending.hint})
    assert pending.details() == ()


def test_permanent_problems_come_first_and_every_pod_is_listed(cluster: FakeCluster) -> None:
    _add_pod(cluster, "shop-1", containerStatuses=[_container(waiting={"reason": "ContainerCreating"})])
    _add_pod(cluster, "shop-2", containerStatuses=[_container(waiting={"reason": "InvalidImageName"})])

    pending = _pending(cluster)

    assert pending.id == "image-not-pullable"
    assert pending.reason.index("shop-2") < pending.reason.index("shop-1")


def test_ready_terminating_and_failed_pods_are_not_reported(cluster: FakeCluster) -> None:
    _add_pod(cluster, "ready", conditions=[{"type": "Ready", "status": "True"}])
    _add_pod(cluster, "going", metadata={"deletionTimestamp": LATER}, conditions=[UNSCHEDULABLE])
    _add_pod(cluster, "evicted", phase="Failed", conditions=[UNSCHEDULABLE])

    assert _pending(cluster) == Pending("default/shop has 1 of 2 ready")
