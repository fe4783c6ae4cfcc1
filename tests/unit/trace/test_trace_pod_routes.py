"""A route that a node lacks to the pods of another one: named where the app does not answer, and where a webhook does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from labctl.trace.probes.exchange import Exchange

world = test_trace.world
A, B = "demo-worker-1", "demo-control-plane"
ON_A = "labctl --name demo ssh demo-worker-1 -- sudo ip route replace 10.244.0.0/24 via 192.168.56.10 dev eth1"
ON_B = "labctl --name demo ssh demo-control-plane -- sudo ip route replace 10.244.1.0/24 via 192.168.56.11 dev eth1"
GATEWAYS = {"10.244.0.": "192.168.56.10", "10.244.1.": "192.168.56.11"}
FAR, NEAR = "10.244.0.6", "10.244.1.5"
METALLB = ("metallb-system", "controller")
Json = dict[str, Any]


def nodes_say(provider: FakeProvider, lost: Mapping[str, Json | None]) -> None:
    """Let both nodes answer; `lost` are the routes, by node, that are not what labctl set up."""

    def said(name: str) -> Any:  # noqa: ANN401 - what a provider asks
        def answer(command: Any) -> Finished:  # noqa: ANN401 - words of a command
            if "address" in command:
                return Finished(0, json.dumps([{"ifname": "eth1", "addr_info": [{"local": ""}]}]), ())
            usual = {"gateway": next(at for prefix, at in GATEWAYS.items() if command[-1].startswith(prefix))}
            found = lost.get(name, usual)
            return Finished(0, json.dumps([found]), ()) if found else Finished(2, "", ("Network is unreachable",))

        return answer

    provider.answers = {name: said(name) for name in (A, B)}


def apart(world: World, lost: Mapping[str, Json | None]) -> World:
    """The controller's pod is on one node, and a second pod of the app on the other."""
    provider = FakeProvider()
    provider.nodes = {A, B}
    nodes_say(provider, lost)
    world.context = with_doors(world.context, provider, world.cluster, world.context.bundle)
    world.with_second_pod().set(CONTROLLER_POD, status={**READY, "podIP": "10.244.1.2"})
    world.cluster.objects[SLICE]["endpoints"][1]["nodeName"] = B
    return world


@dataclass(frozen=True, slots=True)
class Lost:
    """The routes that are lost, what comes back, and what is said of it."""

    routes: Mapping[str, Json | None]
    exchanges: tuple[Exchange, ...]
    cause: str
    commands: tuple[str, ...] = ()


SECOND = "my-app-2"
ROUTES = {
    "from the controller to the app": Lost({A: None}, (came(), late(SECOND)), "pod-route-missing", (ON_A,)),
    "by a gateway that is no node": Lost(
        {A: {"gateway": "172.17.0.1", "dev": "eth0"}}, (came(), late(SECOND)), "pod-route-missing", (ON_A,)
    ),
    "from the app back to the controller": Lost({B: None}, (came(), late(SECOND)), "pod-route-missing", (ON_B,)),
    "and no answer of any pod": Lost({A: None}, (late(SECOND),), "pod-route-missing", (ON_A,)),
    "and the controller's own word": Lost({A: None}, (own(502),), "pod-route-missing", (ON_A,)),
    "none": Lost({}, (came(), late(SECOND)), "pods-differ"),
}


@pytest.mark.parametrize("name", ROUTES)
def test_a_lost_route_between_controller_and_app_is_named_in_place_of_the_silence_it_causes(
    world: World, name: str
) -> None:
    case = ROUTES[name]
    hop = response(say(apart(world, case.routes), *case.exchanges, word=REFUSED))

    assert (hop["state"], hop["cause"]) == ("broken", case.cause)
    assert case.commands == () or tuple(hop["commands"]) == case.commands


def test_an_answer_that_the_log_says_nothing_of_yet_is_explained_by_the_announcing_nodes_routes(world: World) -> None:
    apart(world, {A: None})
    world.client.exchanges, world.client.log = [came(None, None, is_silent=True, failure="timed out")], ""

    hop = response(world)

    assert (hop["cause"], tuple(hop["commands"])) == ("pod-route-missing", (ON_A,))


def test_an_answer_is_not_explained_by_routes_where_nothing_is_broken(world: World) -> None:
    apart(world, {A: None})
    world.client.exchanges = [came(), came(SECOND)]

    assert world.follow(HOST)["ok"]


@pytest.mark.parametrize(
    ("address", "lost", "commands"), [(NEAR, {B: None}, [ON_B]), (NEAR, {}, []), (FAR, {B: None}, [])]
)
def test_the_api_server_lacks_a_route_to_pods_on_another_node_alone(
    context: Context,
    cluster: FakeCluster,
    address: str,
    lost: Mapping[str, Json | None],
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
