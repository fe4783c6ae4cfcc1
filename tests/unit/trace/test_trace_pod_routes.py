"""Tests that a missing route between nodes' pods is reported if the app, or a webhook, does not answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import test_trace
from fakes import FakeCluster, FakeProvider, owned_by, with_doors
from test_trace import CONTROLLER_POD, HOST, READY, SLICE, World
from test_trace_response import REFUSED, came, late, own, response, say

from labctl import trace
from labctl.context import Context
from labctl.host.process import Finished
from labctl.model.lab import Node
from labctl.trace.probes import filters
from labctl.trace.probes.exchange import Exchange
from labctl.trace.trail import Trail

world = test_trace.world
A, B = "demo-worker-1", "demo-control-plane"
ON_A = "labctl --name demo ssh demo-worker-1 -- sudo ip route replace 10.244.0.0/24 via 192.168.56.10 dev eth1"
ON_B = "labctl --name demo ssh demo-control-plane -- sudo ip route replace 10.244.1.0/24 via 192.168.56.11 dev eth1"
OWN = {A: "192.168.56.11", B: "192.168.56.10"}
GATEWAYS = {"10.244.0.": "192.168.56.10", "10.244.1.": "192.168.56.11"}
FAR, NEAR = "10.244.0.6", "10.244.1.5"
METALLB = ("metallb-system", "controller")
Json = dict[str, Any]


def drops(left: Json, right: str, **hook: str) -> tuple[Json, ...]:
    """Return a chain with a rule that drops forwarded packets, or packets at another hook."""
    place = {"family": "inet", "table": "fw"}
    match = {"op": "==", "left": left, "right": right}
    chain = {**place, "name": "forward", "hook": "forward", "prio": 0, **hook}
    rule = {**place, "chain": "forward", "handle": 4, "expr": [{"match": match}, {"drop": None}]}
    return {"chain": chain}, {"rule": rule}


@dataclass(frozen=True, slots=True)
class Broken:
    """A node's routes, forwarding and packet filter."""

    route: Json | None
    """Its route to the other node's pods."""
    forward: str = "1"
    rules: tuple[Json, ...] = ()


def usual(**fields: Any) -> Broken:  # noqa: ANN401 - any field
    return Broken(**{"route": {}, **fields})


def nodes_say(provider: FakeProvider, lost: Mapping[str, Broken]) -> None:
    """Let both nodes answer; `lost` has the nodes whose network is not as labctl configured it."""

    def said(name: str) -> Any:  # noqa: ANN401 - a function that answers commands
        broken = lost.get(name, usual())

        def answer(command: Any) -> Finished:  # noqa: ANN401 - words of a command
            if command[0] == "cat":
                return Finished(0, broken.forward, ())
            if command[0] == "nft":
                return Finished(0, json.dumps({"nftables": list(broken.rules)}) if "-j" in command else "", ())
            if "address" in command:
                return Finished(0, json.dumps([{"ifname": "eth1", "addr_info": []}]), ())
            if "get" not in command:
                return Finished(0, "[]", ())
            its = next((at for prefix, at in GATEWAYS.items() if command[-1].startswith(prefix)), "")
            route = {"dev": "cni0"} if its in {"", OWN[name]} else broken.route
            found = {"gateway": its, "dev": "eth1"} if route == {} else route
            return Finished(0, json.dumps([found]), ()) if found else Finished(2, "", ("Network is unreachable",))

        return answer

    provider.answers = {name: said(name) for name in (A, B)}


def apart(world: World, lost: Mapping[str, Broken]) -> World:
    """Place the controller's pod on one node, and a second pod of the app on the other."""
    provider = FakeProvider()
    provider.nodes = {A, B}
    nodes_say(provider, lost)
    world.context = with_doors(world.context, provider, world.cluster, world.context.bundle)
    world.with_second_pod().set(CONTROLLER_POD, status={**READY, "podIP": "10.244.1.2"})
    world.cluster.objects[SLICE]["endpoints"][1]["nodeName"] = B
    return world


@dataclass(frozen=True, slots=True)
class Lost:
    """Broken nodes, the responses, and what `trace` reports."""

    nodes: Mapping[str, Broken]
    exchanges: tuple[Exchange, ...]
    cause: str
    commands: tuple[str, ...] = ()


SECOND = "my-app-2"
ROUTES = {
    "from the controller to the app": Lost({A: Broken(None)}, (came(), late(SECOND)), "pod-route-missing", (ON_A,)),
    "by a gateway that is no node": Lost(
        {A: Broken({"gateway": "172.17.0.1", "dev": "eth0"})}, (came(), late(SECOND)), "pod-route-missing", (ON_A,)
    ),
    "from the app back to the controller": Lost(
        {B: Broken(None)}, (came(), late(SECOND)), "pod-route-missing", (ON_B,)
    ),
    "and no answer of any pod": Lost({A: Broken(None)}, (late(SECOND),), "pod-route-missing", (ON_A,)),
    "and the controller's own word": Lost({A: Broken(None)}, (own(502),), "pod-route-missing", (ON_A,)),
    "forwarding on the app's node": Lost(
        {B: usual(forward="0")},
        (came(), late(SECOND)),
        "forwarding-off",
        ("labctl --name demo ssh demo-control-plane -- sudo sysctl -w net.ipv4.ip_forward=1",),
    ),
    "packets that the controller's node drops": Lost(
        {A: usual(rules=drops({"meta": {"key": "oifname"}}, "eth1"))},
        (came(), late(SECOND)),
        "filtered-on-node",
        ("labctl --name demo exec -- docker exec demo-worker-1 nft delete rule inet fw forward handle 4",),
    ),
    "packets that the app's node drops": Lost(
        {B: usual(rules=drops({"payload": {"protocol": "ip", "field": "daddr"}}, FAR))},
        (came(), late(SECOND)),
        "filtered-on-node",
        ("labctl --name demo exec -- docker exec demo-control-plane nft delete rule inet fw forward handle 4",),
    ),
    "packets to others that a node drops": Lost(
        {B: usual(rules=drops({"payload": {"protocol": "ip", "field": "daddr"}}, "10.244.0.77"))},
        (came(), late(SECOND)),
        "pods-differ",
    ),
    "packets from outside that a node drops, which itself sends them there": Lost(
        {A: usual(rules=drops({"payload": {"protocol": "ip", "field": "daddr"}}, FAR, hook="ingress", dev="eth1"))},
        (came(), late(SECOND)),
        "pods-differ",
    ),
    "none": Lost({}, (came(), late(SECOND)), "pods-differ"),
}


@pytest.mark.parametrize("name", ROUTES)
def test_a_lost_route_between_controller_and_app_is_named_in_place_of_the_silence_it_causes(
    world: World, name: str
) -> None:
    case = ROUTES[name]
    hop = response(say(apart(world, case.nodes), *case.exchanges, word=REFUSED))

    assert (hop["state"], hop["cause"]) == ("broken", case.cause)
    assert case.commands == () or tuple(hop["commands"]) == case.commands


def test_a_request_that_takes_as_long_as_a_pod_that_cannot_be_reached_is_explained_at_once(world: World) -> None:
    slow = came(seconds={"connect": 0.0004, "first_byte": 1.004})
    hop = response(say(apart(world, {A: Broken(None)}), slow, came()))

    assert (hop["state"], hop["cause"], tuple(hop["commands"])) == ("broken", "pod-route-missing", (ON_A,))
    assert len(world.client.asked) == 2


@pytest.mark.parametrize("place", [{"family": "inet"}, {"family": "bridge"}])
def test_packets_that_this_machine_drops_between_nodes_are_no_pods_fault(
    world: World, place: Mapping[str, str]
) -> None:
    rules = drops({"payload": {"protocol": "ip", "field": "daddr"}}, FAR)
    rules = tuple({kind: {**content, **place} for kind, content in each.items()} for each in rules)
    world.client.packet_filter = filters.parse(json.dumps({"nftables": rules})), ""
    hop = response(say(apart(world, {}), came(), late(SECOND)))

    assert (hop["state"], hop["cause"]) == ("broken", "filtered-here")
    assert hop["commands"] == [f"sudo nft delete rule {place['family']} fw forward handle 4"]


def test_a_pod_with_the_address_of_its_node_takes_no_route_to_pods(world: World) -> None:
    apart(world, {A: usual()}).cluster.objects[SLICE]["endpoints"][1]["addresses"] = [OWN[B]]

    assert response(say(world, came(), late(SECOND), word=REFUSED))["cause"] == "pods-differ"


def test_each_node_is_asked_once_and_not_about_endpoints_without_an_ipv4_address(world: World) -> None:
    apart(world, {})
    endpoints = world.cluster.objects[SLICE]["endpoints"]
    endpoints += [endpoints[1] | {"addresses": [each]} for each in ("10.244.0.7", "10.244.0.8", "fd00::1")]
    provider = world.context.provider
    asked: list[str] = []
    ask = provider.ask

    def noted(node: Node, command: Sequence[str], seconds: float) -> Finished:
        if "ip_forward" in str(command):
            asked.append(node.name)
        return ask(node, command, seconds)

    provider.ask = noted  # type: ignore[method-assign]

    assert response(say(world, came(), late(SECOND), word=REFUSED))["cause"] == "pods-differ"
    assert asked == [A, B]


def test_no_node_is_asked_once_the_time_of_the_trace_is_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    apart(world, {A: Broken(None)})
    monkeypatch.setattr(Trail, "is_over", property(lambda _trail: True))

    assert response(say(world, came(), late(SECOND), word=REFUSED))["cause"] == "pods-differ"


def test_an_answer_that_the_log_says_nothing_of_yet_is_explained_by_the_announcing_nodes_routes(world: World) -> None:
    apart(world, {A: Broken(None)})
    world.client.exchanges, world.client.log = [came(None, None, is_silent=True, failure="timed out")], ""

    hop = response(world)

    assert (hop["cause"], tuple(hop["commands"])) == ("pod-route-missing", (ON_A,))


def test_an_answer_is_not_explained_by_routes_where_nothing_is_broken(world: World) -> None:
    apart(world, {A: Broken(None)})
    world.client.exchanges = [came(), came(SECOND)]

    assert world.follow(HOST)["ok"]


@pytest.mark.parametrize(
    ("address", "lost", "commands"), [(NEAR, {B: Broken(None)}, [ON_B]), (NEAR, {}, []), (FAR, {B: Broken(None)}, [])]
)
def test_the_api_server_lacks_a_route_to_pods_on_another_node_alone(
    context: Context,
    cluster: FakeCluster,
    address: str,
    lost: Mapping[str, Broken],
    commands: list[str],
) -> None:
    provider = FakeProvider()
    nodes_say(provider, lost)
    context = with_doors(context, provider, cluster, context.bundle)
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "metallb"}}}
    cluster.put("apps/v1", "Deployment", METALLB[1], METALLB[0], metadata={"generation": 1}, spec=spec)
    metadata = {"labels": {"app": "metallb"}, **owned_by(METALLB[1])}
    where = {"nodeName": A if address == NEAR else B}
    cluster.put("v1", "Pod", "c-1", METALLB[0], metadata=metadata, spec=where, status={**READY, "podIP": address})

    hop = trace.cut_off(context, *METALLB)

    assert (hop["commands"] if hop else []) == commands
    assert hop is None or (hop["hop"], hop["cause"]) == ("node", "pod-route-missing")
