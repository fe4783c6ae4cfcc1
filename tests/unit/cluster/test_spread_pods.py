"""Moving an app's pods to nodes with fewer of them."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeCluster, lab, owned_by, ready_node

from labctl.cluster import apps
from labctl.model.lab import Lab

APP = {"app.kubernetes.io/name": "my-app"}


@pytest.mark.parametrize(
    ("workers", "where", "moved"),
    [
        (1, {"control-plane": 2, "worker-1": 0}, 1),
        (1, {"control-plane": 1, "worker-1": 1}, 0),
        (1, {"control-plane": 2, "worker-1": 1}, 0),
        (1, {"control-plane": 1, "worker-1": 0}, 0),
        (3, {"worker-1": 3, "worker-2": 0, "worker-3": 0}, 2),
        (3, {"worker-1": 4, "worker-2": 1, "worker-3": 1}, 2),
        (3, {"control-plane": 3, "worker-1": 1, "worker-2": 1, "worker-3": 1}, 0),
    ],
)
def test_only_excess_pods_of_a_crowded_node_are_deleted(
    cluster: FakeCluster, workers: int, where: dict[str, int], moved: int
) -> None:
    _add_nodes(cluster, lab(workers=workers))
    for node, count in where.items():
        for number in range(count):
            _add_app_pod(cluster, f"{node}-{number}", node)

    deleted = apps.spread_pods(cluster, lab(workers=workers), "my-app")

    assert len(deleted) == moved
    assert not set(deleted) & {name for _, kind, _, name in cluster.objects if kind == "Pod"}
    assert apps.spread_pods(cluster, lab(workers=workers), "my-app") == []


def _recently_unready() -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "gone"}]}}


@pytest.mark.parametrize(
    "state",
    [
        _recently_unready(),
        {"status": {}},
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}},
        {"spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}},
        None,
    ],
)
def test_no_pod_is_deleted_in_favour_of_a_node_that_accepts_no_pods(
    cluster: FakeCluster, state: dict[str, Any] | None
) -> None:
    node = cluster.objects["v1", "Node", "", "demo-worker-1"]
    if state is None:
        del cluster.objects["v1", "Node", "", "demo-worker-1"]
    else:
        node |= state
    for number in range(4):
        _add_app_pod(cluster, f"pod-{number}", "control-plane")

    assert apps.spread_pods(cluster, lab(), "my-app") == []


def test_pods_of_a_node_that_accepts_no_pods_are_kept(cluster: FakeCluster) -> None:
    _add_nodes(cluster, lab(workers=3))
    cluster.objects["v1", "Node", "", "demo-worker-3"] |= _recently_unready()
    for node, count in {"worker-1": 3, "worker-2": 0, "worker-3": 4}.items():
        for number in range(count):
            _add_app_pod(cluster, f"{node}-{number}", node)

    (deleted,) = apps.spread_pods(cluster, lab(workers=3), "my-app")

    assert deleted.startswith("worker-1-")


def test_a_prefer_no_schedule_taint_is_ignored(cluster: FakeCluster) -> None:
    taint = {"key": "mine", "effect": "PreferNoSchedule"}
    cluster.objects["v1", "Node", "", "demo-worker-1"]["spec"] = {"taints": [taint]}
    for number in range(2):
        _add_app_pod(cluster, f"pod-{number}", "control-plane")

    assert len(apps.spread_pods(cluster, lab(), "my-app")) == 1


def test_terminating_foreign_failed_and_unscheduled_pods_are_not_counted(cluster: FakeCluster) -> None:
    _add_app_pod(cluster, "stays", "control-plane")
    _add_app_pod(cluster, "goes", "control-plane", deletionTimestamp="2026-11-24T11:00:00Z")
    _add_app_pod(cluster, "the user's own, with the app's label", "control-plane", ownerReferences=[])
    _add_app_pod(cluster, "waits", "")
    _add_app_pod(cluster, "evicted", "control-plane")
    cluster.objects["v1", "Pod", "default", "evicted"]["status"] = {"phase": "Failed"}

    assert apps.spread_pods(cluster, lab(), "my-app") == []


def _add_nodes(cluster: FakeCluster, of: Lab) -> None:
    for node in of.nodes:
        cluster.put("v1", "Node", node.name, **ready_node(node))


def _add_app_pod(cluster: FakeCluster, name: str, node: str, **metadata: object) -> None:
    """Put the app and a pod of it into the cluster; the pod is on this node, if one is given."""
    spec = {"nodeName": f"demo-{node}"} if node else {}
    cluster.put("apps/v1", "Deployment", "my-app", "default", spec={"selector": {"matchLabels": APP}})
    cluster.put("v1", "Pod", name, "default", metadata={"labels": APP, **owned_by("my-app"), **metadata}, spec=spec)
