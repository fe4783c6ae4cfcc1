"""Tests that a missing route between nodes' pods is reported if the app, or a webhook, does not answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest
import test_trace
from fakes import FakeCluster, FakeProvider, owned_by, with_fakes
from test_trace import CONTROLLER_POD, HOST, READY, SLICE, BreakableLab
from test_trace_response import REFUSED, controllers_own, exchange_of, response_hop, set_responses, timed_out

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


def drop_rule(left: Json, right: str, **hook: str) -> tuple[Json, ...]:
    """Return a chain with a rule that drops forwarded packets, or packets at another hook."""
    place = {"family": "inet", "table": "fw"}
    match = {"op": "==", "left": left, "right": right}
    chain = {**place, "name": "forward", "hook": "forward", "prio": 0, **hook}
    rule = {**place, "chain": "forward", "handle": 4, "expr": [{"match": match}, {"drop": None}]}
    return {"chain": chain}, {"rule": rule}


def drop_arp() -> tuple[Json, ...]:
    """Return a chain with a rule that drops the ARP replies of the other node."""
    left = {"payload": {"protocol": "arp", "field": "saddr ip"}}
    rules = drop_rule(left, OWN[B], hook="input")
    return tuple({kind: {**content, "family": "arp"} for kind, content in each.items()} for each in rules)


def drop_by_chance() -> tuple[Json, ...]:
    """Return a chain with a rule that drops seven of ten packets, at random."""
    chain, rule = drop_rule({"payload": {"protocol": "ip", "field": "daddr"}}, FAR)
    number = {"numgen": {"mode": "random", "mod": 10, "offset": 0}}
    rule["rule"]["expr"].insert(1, {"match": {"op": "<", "left": number, "right": 7}})
    return chain, rule


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """A node's routes, forwarding and packet filter."""

    route: Json | None
    """Its route to the other node's pods."""
    forward: str = "1"
    rules: tuple[Json, ...] = ()
    routing: tuple[Json, ...] = ()
    """Its routing rules."""
    tables: tuple[Json, ...] = ()
    """The routes of all its tables."""
    arp: tuple[Json, ...] = ()
    """Its ARP table."""
    connect_time: str = "0.001"


def intact(**fields: Any) -> NodeNetwork:  # noqa: ANN401 - any field
    return NodeNetwork(**{"route": {}, **fields})


def set_node_networks(provider: FakeProvider, lost: Mapping[str, NodeNetwork]) -> None:
    """Let both nodes respond to commands. `lost` has the nodes whose network is not as labctl configured it."""

    def responder(name: str) -> Any:  # noqa: ANN401 - a function that responds to commands
        broken = lost.get(name, intact())

        def respond(command: Any) -> Finished:  # noqa: ANN401 - words of a command
            if command[0] == "cat":
                return Finished(0, broken.forward, ())
            if command[0] == "nft":
                return Finished(0, json.dumps({"nftables": list(broken.rules)}) if "-j" in command else "", ())
            if command[0] == "curl":
                return Finished(0, broken.connect_time, ())
            if "address" in command:
                own = {"local": OWN[name], "prefixlen": 24}
                return Finished(0, json.dumps([{"ifname": "eth1", "mtu": 1500, "addr_info": [own]}]), ())
            listed = {"rule": broken.routing, "table": broken.tables, "neigh": broken.arp}
            if "get" not in command:
                return Finished(0, json.dumps(next((listed[word] for word in command if word in listed), [])), ())
            gateway = next((at for prefix, at in GATEWAYS.items() if command[-1].startswith(prefix)), "")
            route = {"dev": "cni0"} if gateway in {"", OWN[name]} else broken.route
            route = {"gateway": gateway, "dev": "eth1"} if route == {} else route
            return Finished(0, json.dumps([route]), ()) if route else Finished(2, "", ("Network is unreachable",))

        return respond

    provider.answers = {name: responder(name) for name in (A, B)}


def spread_pods(world: BreakableLab, lost: Mapping[str, NodeNetwork]) -> BreakableLab:
    """Place the controller's pod on one node, and a second pod of the app on the other."""
    provider = FakeProvider()
    provider.nodes = {A, B}
    set_node_networks(provider, lost)
    world.context = with_fakes(world.context, provider, world.cluster, world.context.bundle)
    world.with_second_pod().set(CONTROLLER_POD, status={**READY, "podIP": "10.244.1.2"})
    world.cluster.objects[SLICE]["endpoints"][1]["nodeName"] = B
    return world


@dataclass(frozen=True, slots=True)
class RouteCase:
    """Broken nodes, the responses, and what `trace` reports."""

    nodes: Mapping[str, NodeNetwork]
    exchanges: tuple[Exchange, ...]
    cause: str
    commands: tuple[str, ...] = ()


SECOND = "my-app-2"
SSH_A, SSH_B = (f"labctl --name demo ssh {name} -- sudo" for name in (A, B))
RESTART = ("labctl --name demo halt demo-worker-1 demo-control-plane", "labctl --name demo resume")
MAC_B = "02:00:00:00:00:10"
TABLED = {"priority": 50, "src": "all", "table": "100"}


def rule(**fields: str | int) -> Json:
    return {"priority": 50, "src": "all", "action": "blackhole", **fields}


def to_b(gateway: str) -> Json:
    return {"dst": "10.244.0.0/24", "gateway": gateway, "dev": "eth1", "table": "100"}


def neighbour(address: str, state: str, mac: str = "") -> Json:
    return {"dst": address, "dev": "eth1", "lladdr": mac, "state": [state]}


ROUTES = {
    "from the controller to the app": RouteCase(
        {A: NodeNetwork(None)}, (exchange_of(), timed_out(SECOND)), "pod-route-missing", (ON_A,)
    ),
    "through a gateway that is not a node": RouteCase(
        {A: NodeNetwork({"gateway": "172.17.0.1", "dev": "eth0"})},
        (exchange_of(), timed_out(SECOND)),
        "pod-route-missing",
        (ON_A,),
    ),
    "from the app back to the controller": RouteCase(
        {B: NodeNetwork(None)}, (exchange_of(), timed_out(SECOND)), "pod-route-missing", (ON_B,)
    ),
    "and no response of any pod": RouteCase({A: NodeNetwork(None)}, (timed_out(SECOND),), "pod-route-missing", (ON_A,)),
    "and a response of the controller itself": RouteCase(
        {A: NodeNetwork(None)}, (controllers_own(502),), "pod-route-missing", (ON_A,)
    ),
    "no forwarding on the app's node": RouteCase(
        {B: intact(forward="0")},
        (exchange_of(), timed_out(SECOND)),
        "forwarding-off",
        ("labctl --name demo ssh demo-control-plane -- sudo sysctl -w net.ipv4.ip_forward=1",),
    ),
    "packets that the controller's node drops": RouteCase(
        {A: intact(rules=drop_rule({"meta": {"key": "oifname"}}, "eth1"))},
        (exchange_of(), timed_out(SECOND)),
        "filtered-on-node",
        ("labctl --name demo exec -- docker exec demo-worker-1 nft delete rule inet fw forward handle 4",),
    ),
    "packets that the app's node drops": RouteCase(
        {B: intact(rules=drop_rule({"payload": {"protocol": "ip", "field": "daddr"}}, FAR))},
        (exchange_of(), timed_out(SECOND)),
        "filtered-on-node",
        ("labctl --name demo exec -- docker exec demo-control-plane nft delete rule inet fw forward handle 4",),
    ),
    "ARP replies that a node drops": RouteCase(
        {A: intact(rules=drop_arp())},
        (exchange_of(), timed_out(SECOND)),
        "filtered-on-node",
        ("labctl --name demo exec -- docker exec demo-worker-1 nft delete rule arp fw forward handle 4",),
    ),
    "packets that a node drops by chance": RouteCase(
        {A: intact(rules=drop_by_chance())},
        (exchange_of(), timed_out(SECOND)),
        "filtered-on-node",
        ("labctl --name demo exec -- docker exec demo-worker-1 nft delete rule inet fw forward handle 4",),
    ),
    "dropped packets to other addresses": RouteCase(
        {B: intact(rules=drop_rule({"payload": {"protocol": "ip", "field": "daddr"}}, "10.244.0.77"))},
        (exchange_of(), timed_out(SECOND)),
        "pods-differ",
    ),
    "packets from outside that a node drops, which itself sends them there": RouteCase(
        {
            A: intact(
                rules=drop_rule({"payload": {"protocol": "ip", "field": "daddr"}}, FAR, hook="ingress", dev="eth1")
            )
        },
        (exchange_of(), timed_out(SECOND)),
        "pods-differ",
    ),
    "a routing rule on the controller's node": RouteCase(
        {A: intact(routing=(rule(dst="10.244.0.0", dstlen=24),))},
        (exchange_of(), timed_out(SECOND)),
        "pod-route-missing",
        (f"{SSH_A} ip rule del from all to 10.244.0.0/24 blackhole pref 50",),
    ),
    "a routing rule on the app's node for the replies": RouteCase(
        {B: intact(routing=(rule(src="10.244.0.0", srclen=24, dst="10.244.1.0", dstlen=24),))},
        (exchange_of(), timed_out(SECOND)),
        "pod-route-missing",
        (f"{SSH_B} ip rule del from 10.244.0.0/24 to 10.244.1.0/24 blackhole pref 50",),
    ),
    "a routing rule for packets of others": RouteCase(
        {A: intact(routing=(rule(src="10.244.5.0", srclen=24),))}, (exchange_of(), timed_out(SECOND)), "pods-differ"
    ),
    "a routing table that leads to the same node": RouteCase(
        {A: intact(routing=(TABLED,), tables=(to_b("192.168.56.10"),))},
        (exchange_of(), timed_out(SECOND)),
        "pods-differ",
    ),
    "a routing table that leads elsewhere": RouteCase(
        {A: intact(routing=(TABLED,), tables=(to_b("192.168.56.77"),))},
        (exchange_of(), timed_out(SECOND)),
        "pod-route-missing",
        (f"{SSH_A} ip rule del from all lookup 100 pref 50",),
    ),
    "a static ARP entry with another MAC": RouteCase(
        {A: intact(arp=(neighbour(OWN[B], "PERMANENT", "02:00:00:00:00:99"),))},
        (exchange_of(), timed_out(SECOND)),
        "neighbour-fixed",
        ("labctl --name demo exec -- docker exec demo-worker-1 ip neigh del 192.168.56.10 dev eth1",),
    ),
    "a static ARP entry with the right MAC": RouteCase(
        {A: intact(arp=(neighbour(OWN[B], "PERMANENT", MAC_B),))}, (exchange_of(), timed_out(SECOND)), "pods-differ"
    ),
    "connections from the controller's node alone": RouteCase(
        {A: intact(connect_time="0.000")}, (exchange_of(), timed_out(SECOND)), "node-not-reached", RESTART
    ),
    "ARP requests without an answer": RouteCase(
        {A: intact(connect_time="0.000", arp=(neighbour(OWN[B], "FAILED"),))},
        (exchange_of(), timed_out(SECOND)),
        "node-not-reached",
        RESTART,
    ),
    "ARP requests that had no answer before": RouteCase(
        {A: intact(arp=(neighbour(OWN[B], "FAILED"),))}, (exchange_of(), timed_out(SECOND)), "pods-differ"
    ),
    "connections from each node, as of a pod that restarts": RouteCase(
        {A: intact(connect_time="0.000"), B: intact(connect_time="0.000")},
        (exchange_of(), timed_out(SECOND)),
        "pods-differ",
    ),
    "none": RouteCase({}, (exchange_of(), timed_out(SECOND)), "pods-differ"),
}


@pytest.mark.parametrize("name", ROUTES)
def test_a_missing_route_between_controller_and_app_is_reported_instead_of_a_silent_pod(
    world: BreakableLab, name: str
) -> None:
    case = ROUTES[name]
    world.client.macs[IPv4Address(OWN[B])] = {MAC_B}
    hop = response_hop(set_responses(spread_pods(world, case.nodes), *case.exchanges, word=REFUSED))

    assert (hop["state"], hop["cause"]) == ("broken", case.cause)
    assert case.commands == () or tuple(hop["commands"]) == case.commands


def test_a_slow_response_caused_by_an_unreachable_pod_is_explained_by_the_missing_route(world: BreakableLab) -> None:
    slow = exchange_of(seconds={"connect": 0.0004, "first_byte": 1.004})
    hop = response_hop(set_responses(spread_pods(world, {A: NodeNetwork(None)}), slow, exchange_of()))

    assert (hop["state"], hop["cause"], tuple(hop["commands"])) == ("broken", "pod-route-missing", (ON_A,))
    assert len(world.client.asked) == 1


@pytest.mark.parametrize("place", [{"family": "inet"}, {"family": "bridge"}])
def test_packets_between_nodes_that_this_machine_drops_are_reported_as_filtered_here(
    world: BreakableLab, place: Mapping[str, str]
) -> None:
    rules = drop_rule({"payload": {"protocol": "ip", "field": "daddr"}}, FAR)
    rules = tuple({kind: {**content, **place} for kind, content in each.items()} for each in rules)
    world.client.packet_filter = filters.parse(json.dumps({"nftables": rules})), ""
    hop = response_hop(set_responses(spread_pods(world, {}), exchange_of(), timed_out(SECOND)))

    assert (hop["state"], hop["cause"]) == ("broken", "filtered-here")
    assert hop["commands"] == [f"sudo nft delete rule {place['family']} fw forward handle 4"]


def test_a_pod_with_the_address_of_its_node_needs_no_pod_route(world: BreakableLab) -> None:
    spread_pods(world, {A: intact()}).cluster.objects[SLICE]["endpoints"][1]["addresses"] = [OWN[B]]

    assert response_hop(set_responses(world, exchange_of(), timed_out(SECOND), word=REFUSED))["cause"] == "pods-differ"


def test_each_node_is_queried_once(world: BreakableLab) -> None:
    spread_pods(world, {})
    endpoints = world.cluster.objects[SLICE]["endpoints"]
    endpoints += [endpoints[1] | {"addresses": [each]} for each in ("10.244.0.7", "10.244.0.8", "fd00::1")]
    provider = world.context.provider
    queried: list[str] = []
    original = provider.run

    def record(node: Node, command: Sequence[str], seconds: float) -> Finished:
        if "ip_forward" in str(command):
            queried.append(node.name)
        return original(node, command, seconds)

    provider.run = record  # type: ignore[method-assign]

    assert response_hop(set_responses(world, exchange_of(), timed_out(SECOND), word=REFUSED))["cause"] == "pods-differ"
    assert sorted(queried) == sorted((A, B))


def test_no_node_is_queried_after_the_time_limit_of_the_trace(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread_pods(world, {A: NodeNetwork(None)})
    monkeypatch.setattr(Trail, "is_over", property(lambda _trail: True))
    hop = response_hop(set_responses(world, exchange_of(), timed_out(SECOND), word=REFUSED))

    assert (hop["state"], hop["cause"], hop["commands"]) == ("broken", "no-time-left", [])


def test_a_missing_response_without_a_log_line_is_explained_by_routes_of_the_announcing_node(
    world: BreakableLab,
) -> None:
    spread_pods(world, {A: NodeNetwork(None)})
    world.client.exchanges, world.client.log = [exchange_of(None, None, is_silent=True, failure="timed out")], ""

    hop = response_hop(world)

    assert (hop["cause"], tuple(hop["commands"])) == ("pod-route-missing", (ON_A,))


def test_a_missing_route_is_not_reported_if_every_pod_responds(world: BreakableLab) -> None:
    spread_pods(world, {A: NodeNetwork(None)})
    world.client.exchanges = [exchange_of(), exchange_of(SECOND)]

    assert world.follow(HOST)["ok"]


@pytest.mark.parametrize(
    ("address", "lost", "commands"),
    [(NEAR, {B: NodeNetwork(None)}, [ON_B]), (NEAR, {}, []), (FAR, {B: NodeNetwork(None)}, [])],
)
def test_a_missing_route_from_the_api_server_is_reported_only_for_pods_on_another_node(
    context: Context,
    cluster: FakeCluster,
    address: str,
    lost: Mapping[str, NodeNetwork],
    commands: list[str],
) -> None:
    provider = FakeProvider()
    set_node_networks(provider, lost)
    context = with_fakes(context, provider, cluster, context.bundle)
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "metallb"}}}
    cluster.put("apps/v1", "Deployment", METALLB[1], METALLB[0], metadata={"generation": 1}, spec=spec)
    metadata = {"labels": {"app": "metallb"}, **owned_by(METALLB[1])}
    where = {"nodeName": A if address == NEAR else B}
    cluster.put("v1", "Pod", "c-1", METALLB[0], metadata=metadata, spec=where, status={**READY, "podIP": address})

    hop = trace.cut_off(context, *METALLB)

    assert (hop["commands"] if hop else []) == commands
    assert hop is None or (hop["hop"], hop["cause"]) == ("node", "pod-route-missing")
