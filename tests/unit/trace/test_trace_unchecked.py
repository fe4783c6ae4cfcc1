"""Tests that a check without its time leaves a reason open, instead of a fix that the check could refute."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest
import test_trace
from fakes import FakeProvider, set_limits, with_fakes
from test_trace import HOST, BreakableLab
from test_trace_pod_routes import A, NodeNetwork, intact, set_node_networks, spread_pods
from test_trace_response import (
    REFUSED,
    SECOND,
    Word,
    controllers_own,
    exchange_of,
    response_hop,
    set_responses,
    timed_out,
    truncated,
)

from labctl.host.process import Finished
from labctl.model.limits import NORMAL
from labctl.trace.node import node_facts
from labctl.trace.node.node_facts import NodeFacts, Pod
from labctl.trace.probes.exchange import Exchange
from labctl.trace.problem import ProblemError
from labctl.trace.trail import Trail
from labctl.trace.unchecked import FALLBACKS, without_refutable_fix

world = test_trace.world
POD = Pod(IPv4Address("10.244.0.6"), 80, "demo-control-plane")


@dataclass(frozen=True, slots=True)
class UnreportedCase:
    """Responses while no node reports its network, and what `trace` reports."""

    exchanges: tuple[Exchange, ...]
    cause: str
    word: Word | None = REFUSED
    is_certain: bool = False


UNREPORTED = {
    "a pod that is late": UnreportedCase((exchange_of(), timed_out(SECOND)), "no-time-left"),
    "a pod whose body stops": UnreportedCase((exchange_of(), truncated(SECOND)), "no-time-left"),
    "a pod that responds with an error": UnreportedCase(
        (exchange_of(), exchange_of(SECOND, 500)), "pods-differ", is_certain=True
    ),
    "a response of the controller itself": UnreportedCase((controllers_own(502),), "backend-refused"),
    "no response of any pod": UnreportedCase((timed_out("my-app-1"), timed_out(SECOND)), "backend-too-slow"),
    "a pod without a request": UnreportedCase((exchange_of(),), "pod-not-reached", (200, "hello")),
}


@pytest.mark.parametrize("name", UNREPORTED)
def test_while_nodes_do_not_report_their_network_no_pod_is_blamed(world: BreakableLab, name: str) -> None:
    case = UNREPORTED[name]
    spread_pods(world, {})
    world.context = with_fakes(world.context, FakeProvider(), world.cluster, world.context.bundle)
    hop = response_hop(set_responses(world, *case.exchanges, word=case.word))

    assert hop["cause"] == case.cause
    assert ("the network of " in hop["evidence"]["finding"]) is not case.is_certain
    assert case.is_certain or hop["commands"] == []


@pytest.mark.parametrize("cause", FALLBACKS)
def test_a_fallback_keeps_its_fix_only_if_every_check_had_its_time(world: BreakableLab, cause: str) -> None:
    trail = Trail(world.context, world.client, HOST, "/", world.cluster)
    evidence = {"pods": [{"pod": SECOND, "status": None}]}
    problem = ProblemError(cause, "it fails", evidence, fix="Delete it.", commands=("delete it",))

    assert without_refutable_fix(trail, problem) is problem
    trail.unchecked.add("the network of demo-worker-1")
    honest = without_refutable_fix(trail, problem)

    assert (honest.cause, honest.commands) == (FALLBACKS[cause], ())
    assert honest.fix != problem.fix
    assert "the network of demo-worker-1" in honest.text


@pytest.mark.parametrize("cause", ["app-answers-error", "pod-route-missing"])
def test_other_causes_keep_their_fix(world: BreakableLab, cause: str) -> None:
    trail = Trail(world.context, world.client, HOST, "/", world.cluster, unchecked={"further requests"})
    problem = ProblemError(cause, "it fails", {}, fix="Mend it.")

    assert without_refutable_fix(trail, problem) is problem


def test_a_response_that_had_less_than_its_time_limit_is_unknown_and_not_missing(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, trace=NORMAL.http_answer - 0.5)
    hop = response_hop(set_responses(world, timed_out("my-app-1")))

    assert (hop["state"], hop["cause"], hop["commands"]) == ("unknown", "no-time-left", [])


def test_a_further_request_that_had_less_than_its_time_limit_does_not_blame_its_pod(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, trace=NORMAL.survey_spare + NORMAL.survey_answer - 0.1)
    hop = response_hop(set_responses(world.with_second_pod(), exchange_of(), timed_out(SECOND)))

    assert (hop["state"], hop["cause"], hop["commands"]) == ("unknown", "pod-not-reached", [])


@pytest.mark.parametrize(("limit", "reaches"), [(NORMAL.survey_least / 2, True), (NORMAL.trace_pod, False)])
def test_a_connection_from_a_node_that_had_too_little_time_has_not_failed(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch, limit: float, *, reaches: bool
) -> None:
    set_limits(monkeypatch, trace=limit)
    provider = FakeProvider()
    provider.answers = {A: lambda _command: Finished(node_facts.CURL_TIMED_OUT, "0.000000", ())}
    context = with_fakes(world.context, provider, world.cluster, world.context.bundle)
    trail = Trail(context, world.client, HOST, "/", world.cluster)
    node = next(each for each in context.lab.nodes if each.name == A)
    facts = node_facts.connected(trail, NodeFacts(node, {}), [POD])

    assert facts.reaches(POD) is reaches
    assert bool(trail.unchecked) is reaches


def test_a_repeated_check_without_time_does_not_replace_the_first_result(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread_pods(world, {A: intact(connect_time="0.000")})
    provider = world.context.provider
    assert isinstance(provider, FakeProvider)
    set_limits(monkeypatch, trace_again=60.0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: provider.answers.clear())
    hop = response_hop(set_responses(world, exchange_of(), timed_out(SECOND), timed_out(SECOND)))

    assert (hop["cause"], provider.answers) == ("node-not-reached", {})


def test_a_route_that_one_node_reports_is_the_reason_while_another_node_is_silent(world: BreakableLab) -> None:
    spread_pods(world, {A: NodeNetwork(None)})
    provider = FakeProvider()
    set_node_networks(provider, {A: NodeNetwork(None)})
    provider.answers = {A: provider.answers[A]}
    world.context = with_fakes(world.context, provider, world.cluster, world.context.bundle)
    hop = response_hop(set_responses(world, exchange_of(), timed_out(SECOND)))

    assert (hop["state"], hop["cause"]) == ("broken", "pod-route-missing")
