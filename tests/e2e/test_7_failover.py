"""Nodes are killed under load: the site recovers by itself, long before any repair.

The end of the test run reports the outage of every kill.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .client import under_load
from .reallab import RealLab
from .serving import (
    APP,
    CONTROLLER,
    HOSTNAME,
    MAX_OUTAGE,
    TRAFFIC_MARGINS,
    nodes_with_ready_pods,
    pods,
    wait_until_settled,
)

pytestmark = pytest.mark.e2e

RecordProperty = Callable[[str, object], None]
ROUNDS = (1, 2, 3)
"""Repetitions of each kill."""


@pytest.fixture(scope="module")
def pair(survivor: RealLab) -> RealLab:
    """Return the lab of a control plane and a worker, which both serve."""
    return survivor


def test_every_node_that_serves_has_a_controller_and_an_app_pod(pair: RealLab) -> None:
    assert nodes_with_ready_pods(pair, *CONTROLLER) == _both(pair)
    assert nodes_with_ready_pods(pair, *APP) == _both(pair)


def test_every_speaker_listens_to_a_failure_detector_on_each_node(pair: RealLab) -> None:
    for speaker in pods(pair, "-n", "metallb-system", "-l", "component=speaker"):
        log = pair.kubectl("-n", "metallb-system", "logs", speaker["metadata"]["name"])
        joined = {event["node name"] for event in _events(log) if event["node event"] == "NodeJoin"}

        assert {name for name in joined if "/" in name} == {f"failure-detector/{node}" for node in _both(pair)}


@pytest.mark.parametrize("round_number", ROUNDS)
@pytest.mark.parametrize("role", ["worker-1", "control-plane"])
def test_the_site_survives_the_loss_of_either_of_two_nodes(
    pair: RealLab, role: str, round_number: int, record_property: RecordProperty
) -> None:
    node = f"{pair.name}-{role}"
    announcing = wait_until_settled(pair)
    with under_load(pair, HOSTNAME, **TRAFFIC_MARGINS) as client:
        pair.docker("kill", node)
    pages = [pair.page(f"http://{HOSTNAME}")[0] for _ in range(20)]

    assert pages == [200] * 20
    pair.up()
    announcement = "which announced" if node == announcing else "the other one announced"
    record_property("away", f"two nodes, kill {round_number} of the {role}, {announcement}: {client.outage:.1f} s")
    assert client.outage < MAX_OUTAGE


def test_repaired_nodes_serve_again(pair: RealLab) -> None:
    wait_until_settled(pair)

    assert nodes_with_ready_pods(pair, *CONTROLLER) == _both(pair)
    assert nodes_with_ready_pods(pair, *APP) == _both(pair)
    assert not pair.up().result()["changed"]


def _both(pair: RealLab) -> set[str]:
    return {f"{pair.name}-control-plane", f"{pair.name}-worker-1"}


def _events(log: str) -> list[dict[str, Any]]:
    """Return a speaker's log entries about members that joined and left."""
    entries = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [line for line in entries if "node event" in line]
