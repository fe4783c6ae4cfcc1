"""The life of a second lab with the same addresses and three workers.

It has only a network, then an interrupted boot, then runs next to the first lab, loses nodes under load, and is
destroyed. Each stage is a fixture that starts from the previous one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from . import footprint
from .bundles import copy_renamed
from .client import under_load
from .reallab import UP_SECONDS, Completed, RealLab, isolated
from .serving import (
    APP,
    CONTROLLER,
    HOSTNAME,
    MAX_OUTAGE,
    TRAFFIC_MARGINS,
    announcing_node,
    nodes_with_ready_pods,
    wait_until_settled,
)
from .uplink import UplinkWatch, count_packets

pytestmark = pytest.mark.e2e

URL = "http://my-app.local"
RecordProperty = Callable[[str, object], None]
ROUNDS = (1, 2, 3, 4, 5)
"""Repetitions of each kill."""
UNASSIGNED = ("192.168.56.200", "10.244.99.9", "10.96.200.200")
"""Unused addresses of the lab's network, of pods and of Services."""


@pytest.fixture(scope="module")
def cut_off(bundle: Path, state_home: Path) -> Iterator[RealLab]:
    """Yield a lab that has its network, but no nodes yet."""
    described = replace(isolated("e2e-b", state_home, bundle), up_options=("--isolated", "--yes", "--workers", "3"))
    with footprint.destroyed_afterwards(described) as lab:
        lab.up("--only", "isolation")
        yield lab


@pytest.fixture(scope="module")
def watch(cut_off: RealLab) -> Iterator[UplinkWatch]:
    """Count what leaves through the second lab's uplink, from before its first node exists."""
    with count_packets(footprint.record(cut_off).uplink) as watch:
        yield watch


@pytest.fixture(scope="module")
def interrupted(cut_off: RealLab, watch: UplinkWatch) -> Completed:  # noqa: ARG001 - counts from here on
    """Return the output of an `up` that was interrupted while its nodes booted."""
    line = cut_off.arguments("-o", "json", "up", *cut_off.up_options)
    with subprocess.Popen(
        line,
        env=cut_off.full_environment(),
        cwd=cut_off.state_home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        too_late = threading.Timer(UP_SECONDS, child.kill)
        too_late.start()
        lines = []
        for output in child.stdout or ():
            lines.append(output)
            if _is_booting_node(json.loads(output)):
                child.send_signal(signal.SIGINT)
                break
        rest, errors = child.communicate()
        too_late.cancel()
    return Completed(child.returncode, "".join(lines) + rest, errors)


@pytest.fixture(scope="module")
def neighbour(cut_off: RealLab, interrupted: Completed) -> RealLab:  # noqa: ARG001 - resumes the interrupted run
    """Return the second lab once it is up."""
    cut_off.up()
    return cut_off


@pytest.mark.parametrize("address", UNASSIGNED)
def test_no_address_of_a_lab_can_be_reached_from_a_network_without_nodes(
    cut_off: RealLab, watch: UplinkWatch, address: str
) -> None:
    _send_packets(cut_off, address)

    assert cut_off.inside("ip", "route", "get", address, code=2) == ""
    assert watch.leaked() == 0


def test_the_uplink_carries_all_other_traffic(cut_off: RealLab, watch: UplinkWatch) -> None:
    [default] = json.loads(cut_off.inside("ip", "-j", "route", "show", "default"))
    before = watch.packets()
    cut_off.inside("curl", "-s", "-m", "5", f"http://{default['gateway']}:9", code=None)

    assert watch.packets() > before


def test_an_interrupted_up_exits_with_130_and_reports_it(interrupted: Completed) -> None:
    result = interrupted.result()

    assert interrupted.code == 130
    assert (result["ok"], result["error"]["id"]) == (False, "interrupted")
    assert "Traceback" not in interrupted.err


def test_two_labs_have_the_same_addresses_side_by_side(survivor: RealLab, neighbour: RealLab) -> None:
    for each, workers in ((survivor, 1), (neighbour, 3)):
        assert each.page(URL)[0] == 200
        assert each.status()["ingress"]["address"] == "192.168.56.100"
        nodes = [node["metadata"]["name"] for node in each.objects("nodes")["items"]]
        assert nodes == [
            f"{each.name}-control-plane",
            *(f"{each.name}-worker-{number + 1}" for number in range(workers)),
        ]


@pytest.mark.parametrize("address", UNASSIGNED)
def test_no_packet_to_lab_addresses_leaves_a_running_lab_through_its_uplink(
    neighbour: RealLab, watch: UplinkWatch, address: str
) -> None:
    _send_packets(neighbour, address)
    neighbour.docker("exec", "e2e-b-worker-1", "curl", "-s", "-m", "2", f"http://{address}:81", code=None)

    assert watch.packets() > 0
    assert watch.leaked() == 0


def test_with_several_workers_the_control_plane_serves_nothing(neighbour: RealLab) -> None:
    workers = {f"e2e-b-worker-{number}" for number in (1, 2, 3)}
    control_plane = neighbour.objects("node", "e2e-b-control-plane")

    assert nodes_with_ready_pods(neighbour, *CONTROLLER) == workers
    assert nodes_with_ready_pods(neighbour, *APP) < workers
    assert announcing_node(neighbour) in workers
    assert [taint["key"] for taint in control_plane["spec"]["taints"]] == ["node-role.kubernetes.io/control-plane"]
    assert "node-role.kubernetes.io/control-plane" in control_plane["metadata"]["labels"]


def test_the_site_survives_the_loss_of_the_only_control_plane(
    neighbour: RealLab, record_property: RecordProperty
) -> None:
    wait_until_settled(neighbour)
    with under_load(neighbour, HOSTNAME, **TRAFFIC_MARGINS) as client:
        neighbour.docker("kill", "e2e-b-control-plane")
        pages = [neighbour.page(f"http://{HOSTNAME}")[0] for _ in range(50)]

    assert pages == [200] * 50
    neighbour.up()
    record_property("away", f"three workers, the control plane killed: {client.outage:.1f} s")
    assert client.outage < MAX_OUTAGE


def test_the_site_survives_the_loss_of_two_of_three_workers(
    neighbour: RealLab, record_property: RecordProperty
) -> None:
    killed: list[str] = []
    gaps: list[float] = []
    for _ in range(2):
        announcing = wait_until_settled(neighbour, *killed)
        with under_load(neighbour, HOSTNAME, **TRAFFIC_MARGINS) as client:
            neighbour.docker("kill", announcing)
        killed.append(announcing)
        gaps.append(client.outage)

    assert len(set(killed)) == 2
    assert neighbour.page(f"http://{HOSTNAME}")[0] == 200
    broken = neighbour.status(code=8)
    assert [node["name"] for node in broken["nodes"] if not node["ready"]] == sorted(killed)
    assert neighbour.up().result()["ok"]
    outages = ", ".join(f"{gap:.1f} s" for gap in gaps)
    record_property("away", f"three workers, the announcing one killed, then the next: {outages}")
    assert max(gaps) < MAX_OUTAGE


@pytest.mark.parametrize("round_number", ROUNDS)
@pytest.mark.parametrize("role", ["the announcing", "another"])
def test_the_site_survives_the_loss_of_a_worker(
    neighbour: RealLab, role: str, round_number: int, record_property: RecordProperty
) -> None:
    announcing = wait_until_settled(neighbour)
    others = sorted(nodes_with_ready_pods(neighbour, *APP) - {announcing}) or sorted(
        nodes_with_ready_pods(neighbour, *CONTROLLER) - {announcing}
    )
    node = announcing if role == "the announcing" else others[0]
    with under_load(neighbour, HOSTNAME, **TRAFFIC_MARGINS) as client:
        neighbour.docker("kill", node)
    pages = [neighbour.page(f"http://{HOSTNAME}")[0] for _ in range(20)]

    assert pages == [200] * 20
    neighbour.up()
    record_property("away", f"three workers, kill {round_number} of {role} one: {client.outage:.1f} s")
    assert client.outage < MAX_OUTAGE


def test_a_worker_added_later_has_the_loaded_images(neighbour: RealLab, bundle: Path, tmp_path: Path) -> None:
    archive = copy_renamed(bundle / "images" / "pause.tar", tmp_path / "mine.tar", "docker.io/library/mine:1")
    neighbour.labctl("image", "load", str(archive))

    neighbour.up("--workers", "4")

    images = neighbour.labctl("image", "list", "-o", "json").document()["images"]
    (nodes,) = [image["nodes"] for image in images if image["source"] == "loaded"]
    assert nodes == [node["name"] for node in neighbour.status()["nodes"]]
    assert "e2e-b-worker-4" in nodes


def test_destroy_leaves_nothing_and_the_other_lab_still_responds(survivor: RealLab, neighbour: RealLab) -> None:
    recorded = footprint.record(neighbour)
    assert len(recorded.remaining()) > len(recorded.processes) > 2

    events = neighbour.labctl("-o", "json", "destroy", "--yes", "--purge", seconds=120).events()

    assert [event["step"] for event in events if event.get("state") == "done"] == [
        "hosts",
        "nodes",
        "isolation",
        "kubeconfig",
        "state",
    ]
    assert (events[-1]["ok"], events[-1]["changed"], events[-1]["urls"]) == (True, True, [])
    assert recorded.remaining() == []
    assert "e2e-b" not in {listed["lab"] for listed in survivor.labctl("list", "-o", "json").document()["labs"]}
    assert survivor.page(URL)[0] == 200
    assert survivor.status()["ok"]


def _is_booting_node(event: dict[str, Any]) -> bool:
    return event.get("step") == "boot" and event["text"].startswith("e2e-b-control-plane:")


def _send_packets(lab: RealLab, address: str) -> None:
    """Send packets to the address from the lab's network, by TCP and by UDP."""
    lab.inside("curl", "-s", "-m", "2", f"http://{address}:81", code=None)
    lab.inside("bash", "-c", f"echo knock > /dev/udp/{address}/53", code=None)
