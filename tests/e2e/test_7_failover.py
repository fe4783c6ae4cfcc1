"""Nodes that lose their power while a client asks: the site comes back by itself, long before anybody repairs it.

How long it was away is told at the end of the run, for every kill.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import footprint
from .client import asking
from .reallab import RealLab, eventually, isolated

pytestmark = pytest.mark.e2e

HOSTNAME = "my-app.local"
CONTROLLER = ("-n", "ingress-nginx", "-l", "app.kubernetes.io/component=controller")
APP = ("-l", "app.kubernetes.io/name=my-app")
Away = Callable[[str, object], None]
SETTLED_SECONDS = 60.0
WATCHED = {"before": 3.0, "after": 8.0}
"""Seconds of traffic before a kill, and after it: longer than anybody takes to notice it."""


@pytest.fixture(scope="module")
def pair(lab: RealLab) -> RealLab:
    """The lab of a control plane and a worker, which both serve."""
    return lab


@pytest.fixture(scope="module")
def three_workers(bundle: Path, state_home: Path) -> Iterator[RealLab]:
    with footprint.destroyed_afterwards(isolated("e2e-f", state_home, bundle)) as made:
        made.up("--workers", "3")
        yield made


def test_every_node_that_serves_has_a_controller_and_an_app_pod(pair: RealLab) -> None:
    both = {"e2e-control-plane", "e2e-worker-1"}

    assert _nodes_of(pair, *CONTROLLER) == both
    assert _nodes_of(pair, *APP) == both


def test_every_speaker_listens_to_the_workers_failure_detector(pair: RealLab) -> None:
    for speaker in _pods(pair, "-n", "metallb-system", "-l", "component=speaker"):
        log = pair.kubectl("-n", "metallb-system", "logs", speaker["metadata"]["name"])
        joined = {event["node name"] for event in _events(log) if event["node event"] == "NodeJoin"}

        assert {name for name in joined if "/" in name} == {"failure-detector/e2e-worker-1"}


@pytest.mark.parametrize("round_number", range(1, 4))
@pytest.mark.parametrize("node", ["e2e-worker-1", "e2e-control-plane"])
def test_the_site_outlives_either_of_two_nodes(
    pair: RealLab, node: str, round_number: int, record_property: Away
) -> None:
    announcing = _settled(pair)
    with asking(pair, HOSTNAME, **WATCHED) as client:
        pair.docker("kill", node)
    pages = [pair.page(f"http://{HOSTNAME}")[0] for _ in range(20)]

    assert pages == [200] * 20
    pair.up()
    role = "which announced" if node == announcing else "the other one announced"
    record_property("away", f"two nodes, kill {round_number} of {node}, {role}: {client.away:.1f} s")


def test_what_died_serves_again_once_it_is_back(pair: RealLab) -> None:
    _settled(pair)
    both = {"e2e-control-plane", "e2e-worker-1"}

    assert _nodes_of(pair, *CONTROLLER) == both
    assert _nodes_of(pair, *APP) == both
    assert not pair.up().result()["changed"]


def test_workers_leave_the_control_plane_alone(three_workers: RealLab) -> None:
    workers = {f"e2e-f-worker-{number}" for number in (1, 2, 3)}
    control_plane = three_workers.objects("node", "e2e-f-control-plane")

    assert _nodes_of(three_workers, *CONTROLLER) == workers
    assert _nodes_of(three_workers, *APP) < workers
    assert _announcing(three_workers) in workers
    assert [taint["key"] for taint in control_plane["spec"]["taints"]] == ["node-role.kubernetes.io/control-plane"]
    assert "node-role.kubernetes.io/control-plane" in control_plane["metadata"]["labels"]


def test_the_site_does_without_the_only_control_plane(three_workers: RealLab, record_property: Away) -> None:
    _settled(three_workers)
    with asking(three_workers, HOSTNAME, **WATCHED) as client:
        three_workers.docker("kill", "e2e-f-control-plane")
        pages = [three_workers.page(f"http://{HOSTNAME}")[0] for _ in range(50)]

    assert pages == [200] * 50
    three_workers.up()
    record_property("away", f"three workers, the control plane killed: {client.away:.1f} s")


def test_the_site_outlives_two_of_three_workers_one_after_the_other(
    three_workers: RealLab, record_property: Away
) -> None:
    killed: list[str] = []
    gaps: list[float] = []
    for _ in range(2):
        announcing = _settled(three_workers, *killed)
        with asking(three_workers, HOSTNAME, **WATCHED) as client:
            three_workers.docker("kill", announcing)
        killed.append(announcing)
        gaps.append(client.away)

    assert len(set(killed)) == 2
    assert three_workers.page(f"http://{HOSTNAME}")[0] == 200
    broken = three_workers.status(code=8)
    assert [node["name"] for node in broken["nodes"] if not node["ready"]] == sorted(killed)
    assert three_workers.up().result()["ok"]
    told = ", ".join(f"{gap:.1f} s" for gap in gaps)
    record_property("away", f"three workers, the announcing one killed, then the next: {told}")


@pytest.mark.parametrize("round_number", range(1, 6))
@pytest.mark.parametrize("role", ["the announcing", "another"])
def test_the_site_outlives_a_worker(
    three_workers: RealLab, role: str, round_number: int, record_property: Away
) -> None:
    announcing = _settled(three_workers)
    others = sorted(_nodes_of(three_workers, *APP) - {announcing}) or sorted(
        _nodes_of(three_workers, *CONTROLLER) - {announcing}
    )
    node = announcing if role == "the announcing" else others[0]
    with asking(three_workers, HOSTNAME, **WATCHED) as client:
        three_workers.docker("kill", node)
    pages = [three_workers.page(f"http://{HOSTNAME}")[0] for _ in range(20)]

    assert pages == [200] * 20
    three_workers.up()
    record_property("away", f"three workers, kill {round_number} of {role} one: {client.away:.1f} s")


def _settled(lab: RealLab, *dead: str) -> str:
    """The node that announces the address, once every living node has all that it should have, and knows the others."""
    living = {node.removesuffix("\n") for node in lab.docker("ps", "--format", "{{.Names}}").split()} - set(dead)
    eventually(lambda: _ready_speakers(lab), living.__le__, SETTLED_SECONDS)
    eventually(lambda: _answers(lab), lambda statuses: statuses == [200] * 10, SETTLED_SECONDS)
    return eventually(lambda: _announcing(lab), lambda node: node in living, SETTLED_SECONDS)


def _events(log: str) -> list[dict[str, Any]]:
    """What a speaker wrote about members that came and went."""
    written = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [line for line in written if "node event" in line]


def _answers(lab: RealLab) -> list[int]:
    return [lab.page(f"http://{HOSTNAME}")[0] for _ in range(10)]


def _ready_speakers(lab: RealLab) -> set[str]:
    return {_node(pod) for pod in _pods(lab, "-n", "metallb-system", "-l", "component=speaker") if _is_ready(pod)}


def _announcing(lab: RealLab) -> str:
    """Whose MAC answers ARP for the address."""
    lab.page(f"http://{HOSTNAME}")
    nodes = lab.docker("ps", "--format", "{{.Names}}").split()
    macs = {lab.docker("exec", node, "cat", "/sys/class/net/eth1/address").strip(): node for node in nodes}
    [neighbour] = lab.inside("ip", "neighbour", "show", "192.168.56.100").splitlines()
    return macs.get(neighbour.split()[4], "")


def _nodes_of(lab: RealLab, *which: str) -> set[str]:
    return {_node(pod) for pod in _pods(lab, *which) if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]}


def _pods(lab: RealLab, *which: str) -> list[dict[str, Any]]:
    pods: list[dict[str, Any]] = lab.objects("pods", *which)["items"]
    return pods


def _node(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["nodeName"])


def _is_ready(pod: dict[str, Any]) -> bool:
    return any((each["type"], each["status"]) == ("Ready", "True") for each in pod["status"].get("conditions", []))
