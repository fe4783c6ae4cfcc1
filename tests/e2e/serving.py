"""Which nodes serve a lab's app, according to the cluster and to the network."""

from __future__ import annotations

from typing import Any

from .reallab import RealLab, eventually

HOSTNAME = "my-app.local"
CONTROLLER = ("-n", "ingress-nginx", "-l", "app.kubernetes.io/component=controller")
APP = ("-l", "app.kubernetes.io/name=my-app")
SETTLED_SECONDS = 60.0
TRAFFIC_MARGINS = {"before": 1.0, "after": 8.0}
"""Seconds of traffic before and after a kill: longer than any component takes to detect it."""
MAX_OUTAGE = 5.0
"""The longest outage in seconds that a dead node may cause: twice that of an idle machine, and less than MetalLB takes
without the failure detector."""


def wait_until_settled(lab: RealLab, *dead: str) -> str:
    """Wait until every live node has a ready speaker and the app answers; return the announcing node."""
    live = {node.removesuffix("\n") for node in lab.docker("ps", "--format", "{{.Names}}").split()} - set(dead)
    eventually(lambda: _ready_speakers(lab), live.__le__, SETTLED_SECONDS)
    eventually(lambda: _statuses(lab), lambda statuses: statuses == [200] * 10, SETTLED_SECONDS)
    return eventually(lambda: announcing_node(lab), lambda node: node in live, SETTLED_SECONDS)


def _statuses(lab: RealLab) -> list[int]:
    return [lab.page(f"http://{HOSTNAME}")[0] for _ in range(10)]


def _ready_speakers(lab: RealLab) -> set[str]:
    return {_node(pod) for pod in pods(lab, "-n", "metallb-system", "-l", "component=speaker") if _is_ready(pod)}


def announcing_node(lab: RealLab) -> str:
    """Return the node whose MAC answers ARP for the address, or an empty string."""
    lab.page(f"http://{HOSTNAME}")
    nodes = lab.docker("ps", "--format", "{{.Names}}").split()
    macs = {lab.docker("exec", node, "cat", "/sys/class/net/eth1/address").strip(): node for node in nodes}
    [neighbour] = lab.inside("ip", "neighbour", "show", "192.168.56.100").splitlines()
    return macs.get(neighbour.split()[4], "")


def nodes_with_ready_pods(lab: RealLab, *which: str) -> set[str]:
    return {_node(pod) for pod in pods(lab, *which) if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]}


def pods(lab: RealLab, *which: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = lab.objects("pods", *which)["items"]
    return items


def _node(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["nodeName"])


def _is_ready(pod: dict[str, Any]) -> bool:
    return any((each["type"], each["status"]) == ("Ready", "True") for each in pod["status"].get("conditions", []))
