"""Nodes are killed under load: the site recovers by itself, long before any repair.

The end of the test run reports the outage of every kill.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .client import asking
from .reallab import RealLab
from .serving import APP, CONTROLLER, HOSTNAME, MOST_AWAY, WATCHED, nodes_of, pods, settled

pytestmark = pytest.mark.e2e

Away = Callable[[str, object], None]
ROUNDS = (1, 2, 3)
"""Repetitions of each kill."""


@pytest.fixture(scope="module")
def pair(survivor: RealLab) -> RealLab:
    """Return the lab of a control plane and a worker, which both serve."""
    return survivor


def test_every_node_that_serves_has_a_controller_and_an_app_pod(pair: RealLab) -> None:
    assert nodes_of(pair, *CONTROLLER) == _both(pair)
    assert nodes_of(pair, *APP) == _both(pair)


def test_every_speaker_listens_to_a_failure_detector_on_each_node(pair: RealLab) -> None:
    for speaker in pods(pair, "-n", "metallb-system", "-l", "component=speaker"):
        log = pair.kubectl("-n", "metallb-system", "logs", speaker["metadata"]["name"])
        joined = {event["node name"] for event in _events(log) if event["node event"] == "NodeJoin"}

        assert {name for name in joined if "/" in name} == {f"failure-detector/{node}" for node in _both(pair)}


@pytest.mark.parametrize("round_number", ROUNDS)
@pytest.mark.parametrize("role", ["worker-1", "control-plane"])
def test_the_site_outlives_either_of_two_nodes(
    pair: RealLab, role: str, round_number: int, record_property: Away
) -> None:
    node = f"{pair.name}-{role}"
    announcing = settled(pair)
    with asking(pair, HOSTNAME, **WATCHED) as client:
        pair.docker("kill", node)
    pages = [pair.page(f"http://{HOSTNAME}")[0] for _ in range(20)]

    assert pages == [200] * 20
    pair.up()
    told = "which announced" if node == announcing else "the other one announced"
    record_property("away", f"two nodes, kill {round_number} of the {role}, {told}: {client.away:.1f} s")
    assert client.away < MOST_AWAY


def test_what_died_serves_again_once_it_is_back(pair: RealLab) -> None:
    settled(pair)

    assert nodes_of(pair, *CONTROLLER) == _both(pair)
    assert nodes_of(pair, *APP) == _both(pair)
    assert not pair.up().result()["changed"]


def _both(pair: RealLab) -> set[str]:
    return {f"{pair.name}-control-plane", f"{pair.name}-worker-1"}


def _events(log: str) -> list[dict[str, Any]]:
    """Return a speaker's log entries about members that joined and left."""
    written = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [line for line in written if "node event" in line]
