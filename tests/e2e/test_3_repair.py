"""`status` names what was broken by hand, and `up` repairs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .client import under_load
from .reallab import RealLab, eventually

pytestmark = pytest.mark.e2e

URL = "http://my-app.local"
SERVICE = ("-n", "ingress-nginx", "service", "ingress-nginx-controller")
NO_ANSWER = 0


def test_a_deleted_pod_is_replaced_when_up_completes(lab: RealLab) -> None:
    before = _app_pods(lab)
    lab.kubectl("delete", "pod", "--wait=false", "-l", "app.kubernetes.io/name=my-app")
    lab.up()

    assert not before & _app_pods(lab)
    assert lab.page(URL)[0] == 200
    assert lab.status()["ok"]


def test_a_pod_is_moved_to_a_node_with_fewer_pods_only_if_it_is_schedulable(lab: RealLab) -> None:
    worker = f"{lab.name}-worker-1"
    lab.kubectl("cordon", worker)
    [evicted] = [pod for pod, node in _placement(lab).items() if node == worker]
    lab.kubectl("delete", "pod", evicted)
    before = eventually(lambda: _placement(lab), lambda placed: len(placed) == 2 and worker not in placed.values())
    assert _changed_steps(lab) == []
    assert _placement(lab) == before

    lab.kubectl("uncordon", worker)
    assert _changed_steps(lab) == ["apps"]
    assert worker in _placement(lab).values()


def test_up_restores_a_deleted_deployment(lab: RealLab) -> None:
    lab.kubectl("delete", "deployment", "my-app")
    broken = eventually(
        lambda: lab.labctl("status", "-o", "json", code=8).document(), lambda status: status["problems"]
    )

    assert any("my-app" in problem["text"] for problem in broken["problems"])
    assert _changed_steps(lab) == ["apps"]
    assert lab.status()["ok"]


def test_a_users_copies_of_an_apps_objects_are_kept_despite_their_labels(lab: RealLab, tmp_path: Path) -> None:
    kinds = ["deployment/my-app", "ingress/my-app"]
    copies = tmp_path / "mine.yaml"
    originals = [lab.kubectl("get", each, "-o", "yaml") for each in kinds]
    copies.write_text("---\n".join(originals).replace("my-app", "mine"), encoding="utf-8")
    lab.kubectl("apply", "-f", str(copies))
    before = {each["metadata"]["uid"] for each in lab.objects("deployments,ingresses")["items"]}

    assert _changed_steps(lab) == []
    assert {each["metadata"]["uid"] for each in lab.objects("deployments,ingresses")["items"]} == before
    lab.kubectl("delete", "--wait", "-f", str(copies))


def test_up_restores_the_type_of_the_service(lab: RealLab) -> None:
    lab.kubectl("patch", *SERVICE, "--type=merge", "-p", '{"spec": {"type": "ClusterIP"}}')
    broken, text = lab.status(code=8), lab.labctl("status", code=8).out

    assert not broken["ok"]
    assert broken["ingress"]["address"] is None
    assert "service-not-a-load-balancer" in {problem["id"] for problem in broken["problems"]}
    assert "ClusterIP" in text
    assert _changed_steps(lab) == ["ingress"]
    assert lab.status()["ingress"]["address"] == "192.168.56.100"
    assert lab.page(URL)[0] == 200


def test_a_controller_pod_gets_no_requests_before_it_has_its_routes(lab: RealLab) -> None:
    with under_load(lab, "my-app.local", before=2.0, after=5.0) as client:
        lab.kubectl("-n", "ingress-nginx", "delete", "pods", "--all", "--force", "--grace-period=0")

    assert client.statuses[200] > 0
    assert client.statuses.keys() <= {200, NO_ANSWER}


def test_up_restores_a_deleted_pool(lab: RealLab) -> None:
    lab.kubectl("delete", "ipaddresspools", "--all", "-n", "metallb-system")
    broken = lab.status(code=8)

    assert "pool-missing" in {problem["id"] for problem in broken["problems"]}
    assert "metallb" in _changed_steps(lab)
    assert len(lab.objects("ipaddresspools", "-n", "metallb-system")["items"]) == 1
    assert lab.status()["ok"]
    assert lab.page(URL)[0] == 200


def test_hosts_sync_restores_a_missing_line(lab: RealLab) -> None:
    lab.labctl("hosts", "remove")
    broken = lab.status(code=8)

    assert [problem["id"] for problem in broken["problems"]] == ["hosts-entry-missing"]
    assert "192.168.56.100 my-app.local" in broken["problems"][0]["fix"]
    assert lab.labctl("hosts", "sync").out.split() == ["192.168.56.100", "my-app.local"]
    assert lab.status()["ok"]


def _changed_steps(lab: RealLab) -> list[str]:
    return [event["step"] for event in lab.up().events() if event["event"] == "step" and event.get("changed")]


def _app_pods(lab: RealLab) -> set[str]:
    """Return the UIDs of the app's pods that are not terminating."""
    pods = lab.objects("pods", "-l", "app.kubernetes.io/name=my-app")["items"]
    return {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def _placement(lab: RealLab) -> dict[str, str]:
    """Return the node of each of the app's pods that is not terminating, or an empty string if it has none yet."""
    pods = lab.objects("pods", "-l", "app.kubernetes.io/name=my-app")["items"]
    staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in staying}
