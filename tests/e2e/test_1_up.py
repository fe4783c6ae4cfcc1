"""`labctl up` and its result, checked from inside the lab's network with other tools than labctl."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from .reallab import Completed, RealLab

pytestmark = pytest.mark.e2e

STEPS = (
    "preflight",
    "bundle",
    "isolation",
    "render",
    "boot",
    "cluster",
    "metallb",
    "ingress",
    "apps",
    "hosts",
    "verify",
)
ADDRESS = "192.168.56.100"
URL = "http://my-app.local"


def test_up_writes_the_json_of_the_contract(first_up: tuple[RealLab, Completed]) -> None:
    *steps, result = first_up[1].events()

    assert {event["event"] for event in steps} == {"step"}
    assert [event["step"] for event in steps if event["state"] == "started"] == list(STEPS)
    assert [event["step"] for event in steps if event["state"] == "done"] == list(STEPS)
    assert {event["state"] for event in steps} == {"started", "progress", "done"}
    for event in steps:
        is_done = event["state"] == "done"
        assert set(event) == {"event", "step", "state", "text"} | ({"changed", "seconds"} if is_done else set())
    changed = {event["step"] for event in steps if event.get("changed")}
    assert {"isolation", "render", "boot", "metallb", "ingress", "apps", "hosts"} <= changed
    assert result.pop("seconds") >= max(event.get("seconds", 0) for event in steps)
    expected = {"version": 1, "ok": True, "changed": True, "urls": [URL], "hosts": "written", "error": None}
    assert result == {"event": "result", **expected}


def test_the_app_answers_by_name(lab: RealLab) -> None:
    status, body = lab.page(URL)

    assert status == 200
    assert "Welcome to nginx!" in body


def test_a_node_on_the_private_network_answers_arp_for_the_address(lab: RealLab) -> None:
    lab.page(URL)
    [neighbour] = json.loads(lab.inside("ip", "-j", "neighbour", "show", ADDRESS))
    [gateway] = json.loads(lab.inside("ip", "-j", "address", "show", "to", "192.168.56.1/32"))
    nodes = lab.docker("ps", "--format", "{{.Names}}").split()
    on_private_network = {lab.docker("exec", node, "cat", "/sys/class/net/eth1/address").strip() for node in nodes}

    assert len(nodes) == 2
    assert neighbour["dev"] == gateway["ifname"]
    assert neighbour["lladdr"] in on_private_network


def test_the_service_and_the_ingress_have_one_address_of_the_pool(lab: RealLab) -> None:
    [pool] = lab.objects("ipaddresspools.metallb.io", "-n", "metallb-system")["items"]
    service = lab.objects("service", "-n", "ingress-nginx", "ingress-nginx-controller")
    ingress = lab.objects("ingress", "my-app")
    first, _, last = pool["spec"]["addresses"][0].partition("-")

    assert service["spec"]["type"] == "LoadBalancer"
    assert _load_balancer_addresses(service) == [ADDRESS]
    assert IPv4Address(first) <= IPv4Address(ADDRESS) <= IPv4Address(last)
    assert _load_balancer_addresses(ingress) == [ADDRESS]
    assert ingress["spec"]["ingressClassName"] == "nginx"


def test_both_nodes_are_ready_with_addresses_of_the_private_network(lab: RealLab) -> None:
    nodes = lab.objects("nodes")["items"]

    assert {node["metadata"]["name"]: _internal_address(node) for node in nodes} == {
        "e2e-control-plane": "192.168.56.10",
        "e2e-worker-1": "192.168.56.11",
    }
    assert [_ready(node) for node in nodes] == ["True", "True"]


def test_images_come_from_the_bundle_and_are_never_pulled(lab: RealLab) -> None:
    events = lab.objects("events", "-A")["items"]

    assert [event["message"] for event in events if event["reason"] == "Pulling"] == []


def test_up_again_leaves_every_step_unchanged(lab: RealLab) -> None:
    *steps, result = lab.up().events()

    assert [event["step"] for event in steps if event["state"] == "done"] == list(STEPS)
    assert [event["step"] for event in steps if event.get("changed")] == []
    assert (result["ok"], result["changed"]) == (True, False)


def test_exec_runs_a_command_in_the_labs_network(lab: RealLab) -> None:
    assert "Welcome to nginx!" in lab.labctl("exec", "--", "curl", "-s", URL).out
    assert lab.labctl("exec", "--", "kubectl", "get", "nodes", "-o", "name").out.split() == [
        "node/e2e-control-plane",
        "node/e2e-worker-1",
    ]
    lab.labctl("exec", "--", "sh", "-c", "exit 42", code=42)


def test_ssh_runs_a_command_on_a_node(lab: RealLab) -> None:
    assert lab.labctl("ssh", "e2e-worker-1", "--", "hostname").out.strip() == "e2e-worker-1"
    assert lab.labctl("ssh", "control-plane", "--", "hostname").out.strip() == "e2e-control-plane"


def test_the_status_of_a_healthy_lab_is_ok(lab: RealLab) -> None:
    status = lab.status()
    text = lab.labctl("status").out

    assert (status["lab"], status["ok"], status["problems"]) == ("e2e", True, [])
    assert status["nodes"] == [
        {"name": "e2e-control-plane", "role": "control-plane", "address": "192.168.56.10", "ready": True},
        {"name": "e2e-worker-1", "role": "worker", "address": "192.168.56.11", "ready": True},
    ]
    [assigned] = status["addresses"]
    assert (assigned["address"], assigned["service"]) == (ADDRESS, "ingress-nginx/ingress-nginx-controller")
    assert assigned["node"] in {"e2e-control-plane", "e2e-worker-1"}
    assert status["ingress"]["address"] == ADDRESS
    assert status["apps"] == [{"name": "my-app", "url": URL, "http": 200}]
    assert all(word in text for word in ("e2e-worker-1", ADDRESS, URL, "200"))


def test_the_labs_own_hosts_file_has_its_line(lab: RealLab) -> None:
    assert lab.labctl("hosts", "show").out.splitlines() == [f"{ADDRESS} my-app.local"]
    assert f"\n{ADDRESS} my-app.local\n" in lab.inside("cat", "/etc/hosts")


def test_requests_to_the_lab_bypass_a_proxy(lab: RealLab) -> None:
    nowhere = dict.fromkeys(("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    behind = replace(lab, environment={**lab.environment, **nowhere, "NO_PROXY": "intra.example"})

    assert "Welcome to nginx" in behind.labctl("exec", "--", "curl", "-fsS", URL).out
    assert "e2e-worker-1" in behind.labctl("exec", "--", "kubectl", "get", "nodes").out
    assert behind.status()["ok"]
    without_exception = "unset NO_PROXY no_proxy; curl -fsS " + URL
    behind.labctl("exec", "--", "sh", "-c", without_exception, code=7)


def test_the_lab_is_listed(lab: RealLab) -> None:
    assert "e2e" in [listed["lab"] for listed in lab.labctl("list", "-o", "json").document()["labs"]]


def _load_balancer_addresses(item: dict[str, Any]) -> list[str]:
    return [entry["ip"] for entry in item["status"]["loadBalancer"]["ingress"]]


def _internal_address(node: dict[str, Any]) -> str:
    return next(str(entry["address"]) for entry in node["status"]["addresses"] if entry["type"] == "InternalIP")


def _ready(node: dict[str, Any]) -> str:
    return next(str(entry["status"]) for entry in node["status"]["conditions"] if entry["type"] == "Ready")
