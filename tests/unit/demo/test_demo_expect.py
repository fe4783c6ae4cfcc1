"""Expectations of demos: met, met late, and not met, with what was measured."""

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
from labctl.host.http_probe import ProbeResult
from labctl.host.wait import Pending
from labctl.model.demo_reports import ExpectationReport, LoadReport, SceneReport
from labctl.model.errors import NotReadyError

CONTROLLER = "ingress-nginx/ingress-nginx-controller"
GOOD = ProbeResult(200, "my-app-1")
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
class FakeLab:
    """A lab, its client, and a clock that advances only by sleeping."""

    context: Context
    cluster: FakeCluster
    now: float = 0.0
    responses: list[ProbeResult] = field(default_factory=lambda: [GOOD])
    """The response to each request; the last one is repeated."""
    at: dict[float, Callable[[], object]] = field(default_factory=dict)
    """Functions to call, by the time."""

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [each for each in self.at if each <= self.now]:
            self.at.pop(moment)()

    def get(self, hostname: str) -> ProbeResult:
        assert hostname == "my-app.local"
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]

    def check(self, expected: Polled | Gap | Duration, before: str = "", **values: str) -> ExpectationReport:
        scene = ExpectationContext(self.context, SCENE, before, self.get, lambda: self.now, self.sleep)
        return expected.filled(values).check(scene)

    def service(self, name: str, address: str | None, kind: str = "LoadBalancer") -> None:
        namespace, _, name = name.partition("/")
        status = {"loadBalancer": {"ingress": [{"ip": address}] if address else []}}
        self.cluster.put("v1", "Service", name, namespace, spec={"type": kind}, status=status)

    def event(self, namespace: str, service: str, message: str) -> None:
        fields = {"involvedObject": {"kind": "Service", "name": service}, "message": message, "type": "Warning"}
        self.cluster.put("v1", "Event", "e", namespace, lastTimestamp="1", **fields)

    def set_announcer(self, node: str, record: str = "l2-1", *, label: str = "", created: str = "") -> None:
        metadata = {"creationTimestamp": created, "labels": {"metallb.io/node": label or node}}
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
def fake_lab(context: Context, cluster: FakeCluster) -> FakeLab:
    return FakeLab(context, cluster)


# HTTP


def test_a_response_with_the_expected_status_is_met_at_once(fake_lab: FakeLab, golden: Golden) -> None:
    report = fake_lab.check(Http(http="$url"), url="http://my-app.local")

    assert (report["ok"], report["seconds"]) == (True, 0.0)
    golden({"text": report["text"], "measured": report["measured"]})


def test_requests_are_repeated_until_the_status_is_as_expected(fake_lab: FakeLab) -> None:
    fake_lab.responses = [
        ProbeResult(None, failure="no answer: timed out"),
        ProbeResult(503),
        ProbeResult(503),
        ProbeResult(404),
    ]

    report = fake_lab.check(Http(http="http://my-app.local", status=404, within=10))

    assert (report["ok"], report["measured"], report["seconds"]) == (True, "HTTP 404", 0.6)


def test_a_status_that_never_comes_is_reported_with_the_last_result(fake_lab: FakeLab) -> None:
    fake_lab.responses = [ProbeResult(503), ProbeResult(None, failure="no answer: timed out")]

    report = fake_lab.check(Http(http="http://my-app.local", within=2))

    assert (report["ok"], report["measured"]) == (False, "no answer: timed out")
    assert 2 <= report["seconds"] < 2.5


def test_a_late_response_counts_as_no_response(
    fake_lab: FakeLab, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    def slow(hostname: str) -> ProbeResult:
        fake_lab.now += 2.5
        return ProbeResult(200) if hostname == "my-app.local" else ProbeResult(404)

    monkeypatch.setattr(fake_lab, "get", slow)

    report = fake_lab.check(Http(http="http://my-app.local", within=2))

    assert not report["ok"]
    golden(report["measured"])


def test_responses_from_several_pods_meet_answered_by(fake_lab: FakeLab, golden: Golden) -> None:
    fake_lab.responses = [ProbeResult(200, pod) for pod in "aabac"]

    report = fake_lab.check(Http(http="http://my-app.local", answered_by=3))

    assert report["ok"]
    golden({"text": report["text"], "measured": report["measured"]})


@pytest.mark.parametrize(
    ("response", "measured"),
    [
        (ProbeResult(200, "a"), "1 pod: a"),
        (ProbeResult(200), "HTTP 200, which does not say from which pod"),
        (ProbeResult(502), "HTTP 502"),
    ],
)
def test_responses_from_too_few_pods_fail(fake_lab: FakeLab, response: ProbeResult, measured: str) -> None:
    fake_lab.responses = [response]

    report = fake_lab.check(Http(http="http://my-app.local", answered_by=2, within=1))

    assert (report["ok"], report["measured"]) == (False, measured)


# Addresses


@pytest.mark.parametrize(
    ("expected_owner", "address", "met"),
    [
        ("any", ADDRESS, True),
        ("any", None, False),
        (ADDRESS, ADDRESS, True),
        ("$pool_last", ADDRESS, False),
        ("web/y", ADDRESS, True),
        ("web/y", "192.168.56.101", False),
    ],
)
def test_the_address_of_a_service_is_compared_with_the_expected_one(
    fake_lab: FakeLab,
    expected_owner: str,
    address: str | None,
    met: bool,  # noqa: FBT001 - what is expected
    golden: Golden,
) -> None:
    fake_lab.service("default/x", address)
    fake_lab.service("web/y", ADDRESS)

    report = fake_lab.check(
        Address.model_validate({"address": "default/x", "is": expected_owner, "within": 1}), pool_last="192.168.56.110"
    )

    assert (report["ok"], address is None or report["measured"] == address) == (met, True)
    golden({"text": report["text"], "measured": report["measured"]})


def test_an_address_is_waited_for(fake_lab: FakeLab) -> None:
    fake_lab.service("default/x", None)
    fake_lab.at[1.0] = lambda: fake_lab.service("default/x", ADDRESS)

    report = fake_lab.check(Address(address="default/x"))

    assert (report["ok"], report["measured"]) == (True, ADDRESS)
    assert 1 <= report["seconds"] < 1.5


def test_an_address_cannot_be_shared_with_a_missing_service(fake_lab: FakeLab, golden: Golden) -> None:
    fake_lab.service("default/x", ADDRESS)

    report = fake_lab.check(Address.model_validate({"address": "default/x", "is": "web/y", "within": 1}))

    assert not report["ok"]
    golden(report["measured"])


def test_no_address_is_met_when_metallb_reports_the_reason(fake_lab: FakeLab, golden: Golden) -> None:
    reason = 'Failed to allocate IP for "default/x": no available IPs'
    fake_lab.service("default/x", None)
    fake_lab.at[1.0] = lambda: fake_lab.event("default", "x", reason)

    report = fake_lab.check(Address.model_validate({"address": "default/x", "is": "none"}))

    assert (report["ok"], report["measured"]) == (True, reason)
    golden(report["text"])
    assert 1 <= report["seconds"] < 1.5


@pytest.mark.parametrize(("address", "measured"), [(ADDRESS, ADDRESS), (None, "there is no Service default/x")])
def test_neither_an_address_nor_a_missing_service_counts_as_no_address(
    fake_lab: FakeLab, address: str | None, measured: str
) -> None:
    if address:
        fake_lab.service("default/x", address)

    report = fake_lab.check(Address.model_validate({"address": "default/x", "is": "none", "within": 1}))

    assert (report["ok"], report["measured"]) == (False, measured)


# Announcers and nodes


def test_an_expected_announcer_is_met_by_its_name(fake_lab: FakeLab, golden: Golden) -> None:
    fake_lab.set_announcer("demo-worker-1")

    report = fake_lab.check(Announcer(announcer="$standby", within=1), standby="demo-worker-1")

    assert report["ok"]
    golden(report["text"])
    assert not fake_lab.check(Announcer(announcer="demo-worker-9", within=1))["ok"]


def test_a_changed_announcer_is_another_one_than_at_the_start_of_the_scene(fake_lab: FakeLab, golden: Golden) -> None:
    fake_lab.set_announcer("demo-worker-1")
    fake_lab.at[2.0] = lambda: fake_lab.set_announcer("demo-control-plane")

    report = fake_lab.check(Announcer(announcer="changed"), before="demo-worker-1")

    assert (report["ok"], report["measured"]) == (True, "demo-control-plane")
    golden(report["text"])
    assert not fake_lab.check(Announcer(announcer="changed", within=1), before="demo-control-plane")["ok"]


def test_the_status_of_a_failed_announcer_is_ignored(fake_lab: FakeLab) -> None:
    fake_lab.set_announcer("demo-worker-1", created="2026-01-02T00:00:00Z")
    fake_lab.set_announcer("demo-worker-2", "l2-0", created="2026-01-01T00:00:00Z")
    assert state.announcer(fake_lab.cluster, fake_lab.context.lab, *CONTROLLER.split("/")) == "demo-worker-1"

    fake_lab.set_announcer("demo-worker-1", created="2026-01-02T00:00:00Z", label="demo-worker-2")
    assert state.announcer(fake_lab.cluster, fake_lab.context.lab, *CONTROLLER.split("/")) == "demo-worker-2"


def test_a_missing_announcer_fails(fake_lab: FakeLab, golden: Golden) -> None:
    report = fake_lab.check(Announcer(announcer="x", within=1))

    assert not report["ok"]
    golden(report["measured"])


@pytest.mark.parametrize("name", ["worker-1", "demo-worker-1"])
def test_readiness_of_a_node_is_compared(fake_lab: FakeLab, name: str, golden: Golden) -> None:
    assert fake_lab.check(Node(node=name))["measured"] == "Ready"
    assert not fake_lab.check(Node(node=name, ready=False, within=1))["ok"]

    condition = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
    fake_lab.cluster.put("v1", "Node", "demo-worker-1", status={"conditions": [condition]})

    report = fake_lab.check(Node(node=name, ready=False))
    assert report["ok"]
    golden({"text": report["text"], "measured": report["measured"]})


def test_an_unknown_node_is_neither_ready_nor_unready(fake_lab: FakeLab) -> None:
    for ready in (True, False):
        report = fake_lab.check(Node(node="worker-9", ready=ready, within=1))
        assert (report["ok"], report["measured"]) == (False, "the lab demo has no node worker-9")


def test_a_request_to_an_unreachable_api_is_repeated(fake_lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [NotReadyError("the API server does not answer", id="api-unreachable")] * 3
    find = fake_lab.cluster.find

    def listed(*arguments: str) -> list[dict[str, Any]]:
        if failures:
            raise failures.pop()
        return find(*arguments)

    monkeypatch.setattr(fake_lab.cluster, "find", listed)

    report = fake_lab.check(Node(node="worker-1"))

    assert (report["ok"], report["seconds"]) == (True, 0.6)


# Gaps and durations


@pytest.mark.parametrize(("limit", "met"), [(1.04, True), (1, False)])
def test_the_gap_is_compared_with_its_limit(fake_lab: FakeLab, limit: float, met: bool) -> None:  # noqa: FBT001 - what is expected
    report = fake_lab.check(Gap(gap=limit))

    assert (report["ok"], report["measured"], report["seconds"]) == (met, "1.0 s", 0.0)


@pytest.mark.parametrize(("limit", "met"), [(30.0, True), (29.9, False)])
def test_the_seconds_of_all_commands_are_compared_with_their_limit(fake_lab: FakeLab, limit: float, met: bool) -> None:  # noqa: FBT001 - what is expected
    report = fake_lab.check(Duration(seconds=limit))

    assert (report["ok"], report["measured"]) == (met, "30.0 s")


# Live names


def test_live_names_are_resolved(fake_lab: FakeLab) -> None:
    fake_lab.service(CONTROLLER, ADDRESS)
    fake_lab.set_announcer("demo-worker-1")

    names_found = names.live_values(fake_lab.context, frozenset({"address", "announcer", "standby", "lab"}))

    assert names_found == {"address": ADDRESS, "announcer": "demo-worker-1", "standby": "demo-control-plane"}


@pytest.mark.parametrize("name", ["address", "announcer", "standby"])
def test_an_unresolved_live_name_is_pending(fake_lab: FakeLab, name: str) -> None:
    assert isinstance(names.live_values(fake_lab.context, frozenset({name})), Pending)


def test_the_standby_is_another_ready_node(fake_lab: FakeLab) -> None:
    fake_lab.set_announcer("demo-control-plane")
    assert names.live_values(fake_lab.context, frozenset({"standby"})) == {"standby": "demo-worker-1"}

    fake_lab.cluster.put("v1", "Node", "demo-worker-1", status={})
    assert names.live_values(fake_lab.context, frozenset({"standby"})) == Pending(
        "no node but demo-control-plane is Ready"
    )
    worker = fake_lab.context.lab.nodes[1]
    fake_lab.cluster.put("v1", "Node", worker.name, **ready_node(worker))
    assert names.live_values(fake_lab.context, frozenset({"standby"})) == {"standby": "demo-worker-1"}
