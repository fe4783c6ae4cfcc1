"""The state of the live cluster, in the lab's terms."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from fakes import ADDRESS, FakeCluster, lab, owned_by
from golden_files import Golden

from labctl.cluster import state as cluster_state
from labctl.host import arp
from labctl.host.arp import Route
from labctl.host.wait import Pending

LABELS = {"app": "x"}


def _add_deployment(cluster: FakeCluster, *, wanted: int = 2, generation: int = 1, **status: int) -> None:
    spec = {"replicas": wanted, "selector": {"matchLabels": LABELS}}
    metadata = {"generation": generation}
    cluster.put("apps/v1", "Deployment", "x", "default", metadata=metadata, spec=spec, status=status)


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([{"type": "Ready", "status": "True"}], None),
        ([{"type": "Ready", "status": "False", "message": "no CNI"}], "no CNI"),
        ([{"type": "MemoryPressure", "status": "False"}], "its kubelet has not reported"),
        ([], "its kubelet has not reported"),
    ],
)
def test_a_node_is_ready_or_has_a_reason(
    cluster: FakeCluster, conditions: list[dict[str, str]], reason: str | None
) -> None:
    cluster.put("v1", "Node", "demo-worker-1", status={"conditions": conditions})

    assert cluster_state.unready_nodes(cluster, lab()).get("demo-worker-1") == reason


def test_a_missing_node_has_not_joined_and_foreign_nodes_are_ignored(cluster: FakeCluster) -> None:
    cluster.put("v1", "Node", "foreign", status={})

    assert cluster_state.unready_nodes(cluster, lab(workers=2)) == {"demo-worker-2": "it has not joined"}


@pytest.mark.parametrize(
    ("status", "address"),
    [
        ({"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}, IPv4Address(ADDRESS)),
        ({"loadBalancer": {"ingress": [{"hostname": "x.example"}, {"ip": ADDRESS}]}}, IPv4Address(ADDRESS)),
        ({"loadBalancer": {}}, None),
        ({}, None),
    ],
)
def test_a_service_has_an_address_or_none(status: dict[str, Any], address: IPv4Address | None) -> None:
    assert cluster_state.address_of({"status": status}) == address


def test_a_service_without_address_and_events_has_a_default_reason(cluster: FakeCluster, golden: Golden) -> None:
    cluster.put("v1", "Service", "x", "default")
    pending = cluster_state.load_balancer_address(cluster, "default", "x")

    assert isinstance(pending, Pending)
    golden(pending.reason)


def test_the_last_warning_of_a_service_is_the_reason_even_if_another_has_no_timestamp(cluster: FakeCluster) -> None:
    cluster.put("v1", "Service", "x", "default", metadata={"uid": "2"})
    about = {"kind": "Service", "name": "x", "uid": "2"}
    events = {
        "first": (about, None, "Warning"),
        "last": (about, "2026-01-02", "Warning"),
        "of another": (about | {"name": "y"}, "2026-01-03", "Warning"),
        "of one that is gone": (about | {"uid": "1"}, "2026-01-03", "Warning"),
        "of the node that announced it": (about, "2026-01-03", "Normal"),
    }
    for message, (of, time, kind) in events.items():
        fields = {"involvedObject": of, "message": message, "lastTimestamp": time, "type": kind}
        cluster.put("v1", "Event", message, "default", **fields)

    assert cluster_state.load_balancer_address(cluster, "default", "x") == Pending("last")


def test_the_announcing_node_is_read_from_metallbs_status(cluster: FakeCluster) -> None:
    status = {"node": "demo-worker-1", "serviceNamespace": "web", "serviceName": "x"}
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-a", "metallb-system", status=status)
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-b", "metallb-system", status={})

    assert cluster_state.announcing_nodes(cluster) == {("web", "x"): "demo-worker-1"}


def test_the_newest_status_names_the_announcing_node_after_a_failover(cluster: FakeCluster) -> None:
    status = {"node": "dead", "serviceNamespace": "ingress-nginx", "serviceName": "nginx"}
    kind = ("metallb.io/v1beta1", "ServiceL2Status")
    taken_over = {"creationTimestamp": "2026-11-24T11:00:01Z", "labels": {"metallb.io/node": "alive"}}
    cluster.put(*kind, "l2-b", "metallb-system", status=status, metadata=taken_over)
    cluster.put(*kind, "l2-c", "metallb-system", status=status, metadata={"creationTimestamp": "2026-11-24T11:00:00Z"})

    assert cluster_state.announcing_nodes(cluster) == {("ingress-nginx", "nginx"): "alive"}


SERVICE = ("ingress-nginx", "nginx")
WAY = Route("br-1", IPv4Address("192.168.56.1"), "")
MACS = {IPv4Address("192.168.56.10"): {"02:10"}, IPv4Address("192.168.56.11"): {"02:11"}}


@pytest.mark.parametrize(
    ("macs", "way", "announcer"),
    [
        ({"02:11"}, WAY, {SERVICE: "demo-worker-1"}),
        ({"02:99"}, WAY, {}),
        (set(), WAY, {SERVICE: None}),
        ({"02:11"}, None, {}),
        ({"02:11"}, replace(WAY, gateway="10.0.0.1"), {}),
    ],
)
def test_without_a_status_the_node_that_answers_arp_is_the_announcer(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, macs: set[str], way: Route | None, announcer: dict[Any, str]
) -> None:
    heard = {**MACS, IPv4Address(ADDRESS): macs}
    monkeypatch.setattr(arp, "route", lambda _address: way)
    monkeypatch.setattr(arp, "query", lambda addresses, _way, _seconds: {each: heard[each] for each in addresses})

    assert cluster_state.announcers(cluster, lab(), {SERVICE: IPv4Address(ADDRESS)}) == announcer


def test_with_a_status_no_arp_request_is_sent(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"node": "demo-worker-1", "serviceNamespace": SERVICE[0], "serviceName": SERVICE[1]}
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-a", "metallb-system", status=status)
    monkeypatch.setattr(arp, "route", lambda _address: pytest.fail("asked"))

    assert cluster_state.announcers(cluster, lab(), {SERVICE: IPv4Address(ADDRESS)}) == {SERVICE: "demo-worker-1"}


def test_a_rollout_is_complete_when_every_replica_of_the_newest_version_is_ready(cluster: FakeCluster) -> None:
    _add_deployment(cluster, observedGeneration=1, replicas=2, updatedReplicas=2, readyReplicas=2)

    assert cluster_state.rollout(cluster, "default", "x") is None


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1},
        {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3},
        {"observedGeneration": 0, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
        {},
    ],
)
def test_a_rollout_is_pending_until_then(cluster: FakeCluster, status: dict[str, int]) -> None:
    _add_deployment(cluster, **status)

    assert isinstance(cluster_state.rollout(cluster, "default", "x"), Pending)


READY = {"conditions": [{"type": "Ready", "status": "True"}]}
UNREADY = {"conditions": [{"type": "Ready", "status": "False"}]}


@pytest.mark.parametrize(
    ("pods", "ready"),
    [
        ([({}, READY), ({}, READY)], 2),
        ([({}, READY), ({}, UNREADY)], 1),
        ([({}, READY)], 1),
        ([({}, READY), ({"deletionTimestamp": "2026-11-24T11:00:00Z"}, READY)], 1),
        ([({}, READY), ({}, {**READY, "phase": "Failed"})], 1),
        ([({}, READY), ({}, READY), ({}, READY)], 3),
        ([({}, READY), ({}, READY), ({"ownerReferences": []}, UNREADY)], 2),
        ([({}, READY), ({"ownerReferences": [{"kind": "Job", "name": "x-1"}]}, READY)], 1),
        ([({}, READY), (owned_by("x-canary"), READY)], 1),
    ],
)
def test_readiness_is_counted_from_pods_not_from_the_status_of_the_deployment(
    cluster: FakeCluster, pods: list[tuple[dict[str, Any], dict[str, Any]]], ready: int
) -> None:
    _add_deployment(cluster, observedGeneration=1, replicas=2, updatedReplicas=2, readyReplicas=2)
    for number, (metadata, status) in enumerate(pods):
        about = {"labels": LABELS, **owned_by("x"), **metadata}
        cluster.put("v1", "Pod", f"x-{number}", "default", metadata=about, status=status)

    pending = cluster_state.rollout(cluster, "default", "x")

    assert (pending is None) == (ready == 2)
    assert pending is None or pending.reason.startswith(f"default/x has {ready} of 2 ready")


def test_pods_selected_by_expressions_are_counted(cluster: FakeCluster) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    metadata = {"generation": 1}
    cluster.put("apps/v1", "Deployment", "x", "default", metadata=metadata, spec={"selector": selector}, status=status)
    cluster.put("v1", "Pod", "x-1", "default", metadata={"labels": LABELS, **owned_by("x")}, status=READY)

    assert cluster_state.rollout(cluster, "default", "x") is None


def test_ready_containers_are_those_of_ready_pods_on_the_node(cluster: FakeCluster) -> None:
    spec, containers = {"nodeName": "demo-worker-1"}, [{"containerID": "containerd://a"}, {"containerID": ""}, {}]
    cluster.put("v1", "Pod", "ready", spec=spec, status={**READY, "containerStatuses": containers})
    cluster.put("v1", "Pod", "unready", spec=spec, status={**UNREADY, "containerStatuses": containers})
    cluster.put("v1", "Pod", "elsewhere", spec={"nodeName": "demo-worker-2"}, status=READY)

    assert cluster_state.ready_containers(cluster, "demo-worker-1") == {"ready": {"a"}}


def test_a_rollout_of_zero_replicas_is_complete(cluster: FakeCluster) -> None:
    _add_deployment(cluster, wanted=0, observedGeneration=1)

    assert cluster_state.rollout(cluster, "default", "x") is None


def test_a_missing_deployment_is_pending(cluster: FakeCluster) -> None:
    assert cluster_state.rollout(cluster, "default", "x") == Pending("there is no Deployment default/x")
