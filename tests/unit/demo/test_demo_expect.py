"""What demos expect: met, met late, and not met, with what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import ADDRESS, FakeCluster, ready_node
from golden_files import Golden

from labctl.cluster import state
from labctl.context import Context
from labctl.demo import names
from labctl.demo.expect import Address, Announcer, Duration, ExpectationContext, Gap, Http, Node, Polled
from labctl.host.http_probe import Answer
from labctl.host.wait import Pending
from labctl.model.demo_reports import ExpectationReport, LoadReport, SceneReport
from labctl.model.errors import NotReadyError

CONTROLLER = "ingress-nginx/ingress-nginx-controller"
GOOD = Answer(200, "my-app-1")
LOAD: LoadReport = {
    "hostname": "my-app.local",
    "seconds": 3.0,
    "answers": 20,
    "failures": 1,
    "gap": 1.04,
    "per_second": [10, 0, 10],
    "first_command": None,
}


SCENE: SceneReport = {
    "title": "One",
    "say": None,
    "ok": False,
    "seconds": 0.0,
    "commands": [{"command": "labctl up", "code": 0, "seconds": seconds} for seconds in (10.0, 20.0)],
    "expectations": [],
    "load": LOAD,
}


@dataclass
class World:
    """A lab, who asks it, and a clock that stands still but when somebody waits."""

    context: Context
    cluster: FakeCluster
    now: float = 0.0
    answers: list[Answer] = field(default_factory=lambda: [GOOD])
    """One a request; the last one again and again."""
    then: dict[float, Callable[[], object]] = field(default_factory=dict)
    """What happens when."""

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [each for each in self.then if each <= self.now]:
            self.then.pop(moment)()

    def ask(self, hostname: str) -> Answer:
        assert hostname == "my-app.local"
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def look(self, expected: Polled | Gap | Duration, before: str = "", **values: str) -> ExpectationReport:
        scene = ExpectationContext(self.context, SCENE, before, self.ask, lambda: self.now, self.sleep)
        return expected.filled(values).check(scene)

    def service(self, name: str, address: str | None, kind: str = "LoadBalancer") -> None:
        namespace, _, name = name.partition("/")
        status = {"loadBalancer": {"ingress": [{"ip": address}] if address else []}}
        self.cluster.put("v1", "Service", name, namespace, spec={"type": kind}, status=status)

    def event(self, namespace: str, service: str, message: str) -> None:
        fields = {"involvedObject": {"kind": "Service", "name": service}, "message": message, "type": "Warning"}
        self.cluster.put("v1", "Event", "e", namespace, lastTimestamp="1", **fields)

    def announced(self, node: str, record: str = "l2-1", *, label: str = "", made: str = "") -> None:
        metadata = {"creationTimestamp": made, "labels": {"metallb.io/node": label or node}}
        service = {"serviceNamespace": "ingress-nginx", "serviceName": "ingress-nginx-controller"}
        self.cluster.put(
            "metallb.io/v1beta1",
            "ServiceL2Status",
            record,
            "metallb-system",
            metadata=metadata,
            status={"node": node, **service},
        )


@pytest.fixture
def world(context: Context, cluster: FakeCluster) -> World:
    return World(context, cluster)


# HTTP


def test_an_answer_with_the_status_is_met_at_once(world: World, golden: Golden) -> None:
    seen = world.look(Http(http="$url"), url="http://my-app.local")

    assert (seen["ok"], seen["seconds"]) == (True, 0.0)
    golden({"text": seen["text"], "measured": seen["measured"]})


def test_an_answer_is_asked_for_until_it_has_the_status(world: World) -> None:
    world.answers = [Answer(None, failure="no answer: timed out"), Answer(503), Answer(503), Answer(404)]

    seen = world.look(Http(http="http://my-app.local", status=404, within=10))

    assert (seen["ok"], seen["measured"], seen["seconds"]) == (True, "HTTP 404", 0.6)


def test_an_answer_that_never_comes_is_told_with_what_came_instead(world: World) -> None:
    world.answers = [Answer(503), Answer(None, failure="no answer: timed out")]

    seen = world.look(Http(http="http://my-app.local", within=2))

    assert (seen["ok"], seen["measured"]) == (False, "no answer: timed out")
    assert 2 <= seen["seconds"] < 2.5


def test_an_answer_that_comes_too_late_is_none(world: World, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    def slow(hostname: str) -> Answer:
        world.now += 2.5
        return Answer(200) if hostname == "my-app.local" else Answer(404)

    monkeypatch.setattr(world, "ask", slow)

    seen = world.look(Http(http="http://my-app.local", within=2))

    assert not seen["ok"]
    golden(seen["measured"])


def test_several_pods_answer(world: World, golden: Golden) -> None:
    world.answers = [Answer(200, pod) for pod in "aabac"]

    seen = world.look(Http(http="http://my-app.local", answered_by=3))

    assert seen["ok"]
    golden({"text": seen["text"], "measured": seen["measured"]})


@pytest.mark.parametrize(
    ("answer", "measured"),
    [
        (Answer(200, "a"), "1 pod: a"),
        (Answer(200), "HTTP 200, which does not say from which pod"),
        (Answer(502), "HTTP 502"),
    ],
)
def test_fewer_pods_are_not_enough(world: World, answer: Answer, measured: str) -> None:
    world.answers = [answer]

    seen = world.look(Http(http="http://my-app.local", answered_by=2, within=1))

    assert (seen["ok"], seen["measured"]) == (False, measured)


# Addresses


@pytest.mark.parametrize(
    ("owned", "address", "met"),
    [
        ("any", ADDRESS, True),
        ("any", None, False),
        (ADDRESS, ADDRESS, True),
        ("$pool_last", ADDRESS, False),
        ("web/y", ADDRESS, True),
        ("web/y", "192.168.56.101", False),
    ],
)
def test_a_service_has_an_address(
    world: World,
    owned: str,
    address: str | None,
    met: bool,  # noqa: FBT001 - what is expected
    golden: Golden,
) -> None:
    world.service("default/x", address)
    world.service("web/y", ADDRESS)

    seen = world.look(
        Address.model_validate({"address": "default/x", "is": owned, "within": 1}), pool_last="192.168.56.110"
    )

    assert (seen["ok"], address is None or seen["measured"] == address) == (met, True)
    golden({"text": seen["text"], "measured": seen["measured"]})


def test_an_address_may_come_later(world: World) -> None:
    world.service("default/x", None)
    world.then[1.0] = lambda: world.service("default/x", ADDRESS)

    seen = world.look(Address(address="default/x"))

    assert (seen["ok"], seen["measured"]) == (True, ADDRESS)
    assert 1 <= seen["seconds"] < 1.5


def test_the_other_service_must_have_one_to_share(world: World, golden: Golden) -> None:
    world.service("default/x", ADDRESS)

    seen = world.look(Address.model_validate({"address": "default/x", "is": "web/y", "within": 1}))

    assert not seen["ok"]
    golden(seen["measured"])


def test_that_there_is_no_address_is_known_when_metallb_has_said_why(world: World, golden: Golden) -> None:
    reason = 'Failed to allocate IP for "default/x": no available IPs'
    world.service("default/x", None)
    world.then[1.0] = lambda: world.event("default", "x", reason)

    seen = world.look(Address.model_validate({"address": "default/x", "is": "none"}))

    assert (seen["ok"], seen["measured"]) == (True, reason)
    golden(seen["text"])
    assert 1 <= seen["seconds"] < 1.5


@pytest.mark.parametrize(("address", "measured"), [(ADDRESS, ADDRESS), (None, "there is no Service default/x")])
def test_an_address_and_a_service_that_is_not_there_are_not_none(
    world: World, address: str | None, measured: str
) -> None:
    if address:
        world.service("default/x", address)

    seen = world.look(Address.model_validate({"address": "default/x", "is": "none", "within": 1}))

    assert (seen["ok"], seen["measured"]) == (False, measured)


# Announcers and nodes


def test_the_node_that_announces_is_named(world: World, golden: Golden) -> None:
    world.announced("demo-worker-1")

    seen = world.look(Announcer(announcer="$standby", within=1), standby="demo-worker-1")

    assert seen["ok"]
    golden(seen["text"])
    assert not world.look(Announcer(announcer="demo-worker-9", within=1))["ok"]


def test_another_node_announces_than_when_the_scene_began(world: World, golden: Golden) -> None:
    world.announced("demo-worker-1")
    world.then[2.0] = lambda: world.announced("demo-control-plane")

    seen = world.look(Announcer(announcer="changed"), before="demo-worker-1")

    assert (seen["ok"], seen["measured"]) == (True, "demo-control-plane")
    golden(seen["text"])
    assert not world.look(Announcer(announcer="changed", within=1), before="demo-control-plane")["ok"]


def test_what_a_dead_node_left_behind_does_not_count(world: World) -> None:
    world.announced("demo-worker-1", made="2026-01-02T00:00:00Z")
    world.announced("demo-worker-2", "l2-0", made="2026-01-01T00:00:00Z")
    assert state.announcer(world.cluster, world.context.lab, *CONTROLLER.split("/")) == "demo-worker-1"

    world.announced("demo-worker-1", made="2026-01-02T00:00:00Z", label="demo-worker-2")
    assert state.announcer(world.cluster, world.context.lab, *CONTROLLER.split("/")) == "demo-worker-2"


def test_nobody_announces(world: World, golden: Golden) -> None:
    seen = world.look(Announcer(announcer="x", within=1))

    assert not seen["ok"]
    golden(seen["measured"])


@pytest.mark.parametrize("name", ["worker-1", "demo-worker-1"])
def test_a_node_is_ready_or_not(world: World, name: str, golden: Golden) -> None:
    assert world.look(Node(node=name))["measured"] == "Ready"
    assert not world.look(Node(node=name, ready=False, within=1))["ok"]

    condition = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
    world.cluster.put("v1", "Node", "demo-worker-1", status={"conditions": [condition]})

    seen = world.look(Node(node=name, ready=False))
    assert seen["ok"]
    golden({"text": seen["text"], "measured": seen["measured"]})


def test_a_node_that_there_is_not_is_neither(world: World) -> None:
    for ready in (True, False):
        seen = world.look(Node(node="worker-9", ready=ready, within=1))
        assert (seen["ok"], seen["measured"]) == (False, "the lab demo has no node worker-9")


def test_an_api_that_does_not_answer_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [NotReadyError("the API server does not answer", id="api-unreachable")] * 3
    answers = world.cluster.find

    def listed(*arguments: str) -> list[dict[str, Any]]:
        if failures:
            raise failures.pop()
        return answers(*arguments)

    monkeypatch.setattr(world.cluster, "find", listed)

    seen = world.look(Node(node="worker-1"))

    assert (seen["ok"], seen["seconds"]) == (True, 0.6)


# What is only compared


@pytest.mark.parametrize(("most", "met"), [(1.04, True), (1, False)])
def test_a_gap_is_compared(world: World, most: float, met: bool) -> None:  # noqa: FBT001 - what is expected
    seen = world.look(Gap(gap=most))

    assert (seen["ok"], seen["measured"], seen["seconds"]) == (met, "1.0 s", 0.0)


@pytest.mark.parametrize(("most", "met"), [(30.0, True), (29.9, False)])
def test_the_seconds_of_all_commands_are_compared(world: World, most: float, met: bool) -> None:  # noqa: FBT001 - what is expected
    seen = world.look(Duration(seconds=most))

    assert (seen["ok"], seen["measured"]) == (met, "30.0 s")


# What names stand for now


def test_live_names_are_looked_up(world: World) -> None:
    world.service(CONTROLLER, ADDRESS)
    world.announced("demo-worker-1")

    found = names.live(world.context, frozenset({"address", "announcer", "standby", "lab"}))

    assert found == {"address": ADDRESS, "announcer": "demo-worker-1", "standby": "demo-control-plane"}


@pytest.mark.parametrize("name", ["address", "announcer", "standby"])
def test_what_nobody_can_say_yet_is_pending(world: World, name: str) -> None:
    assert isinstance(names.live(world.context, frozenset({name})), Pending)


def test_a_standby_is_another_node_that_is_ready(world: World) -> None:
    world.announced("demo-control-plane")
    assert names.live(world.context, frozenset({"standby"})) == {"standby": "demo-worker-1"}

    world.cluster.put("v1", "Node", "demo-worker-1", status={})
    assert names.live(world.context, frozenset({"standby"})) == Pending("no node but demo-control-plane is Ready")
    worker = world.context.lab.nodes[1]
    world.cluster.put("v1", "Node", worker.name, **ready_node(worker))
    assert names.live(world.context, frozenset({"standby"})) == {"standby": "demo-worker-1"}
