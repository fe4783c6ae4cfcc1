"""Routes of a machine that take packets from a lab, and their owners."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from fakes import lab
from golden_files import Golden
from recorded_machine import Recorded, run_check, text

from labctl.context import Context
from labctl.doctor.routes import conflicting_route, containing_route
from labctl.host.routes import DEFAULT_RULES, TableRoute, routes, rules

NETWORK = IPv4Network("192.168.56.0/24")
ROUTES, RULES = "ip -j -4 route show table all", "ip -j -4 rule show"
VPN = {ROUTES: "ip-routes-vpn.json"}
DOCKER = {
    "docker network ls --quiet": ("5e1b\na58c\n0c0e\n9b8a\n", 0),
    "docker network inspect 5e1b a58c 0c0e 9b8a": "docker-networks-ipvlan.json",
}
OTHERS_BRIDGE = {
    ROUTES: ('[{"dst":"192.168.60.0/24","dev":"br-0c0e1c2d3f40","protocol":"kernel","scope":"link","flags":[]}]', 0)
}
LIBVIRT = {
    ROUTES: ('[{"dst":"192.168.56.0/24","dev":"virbr1","protocol":"kernel","scope":"link","flags":[]}]', 0),
    "virsh -c qemu:///system net-list --all --name": ("vagrant-libvirt\n", 0),
    "virsh -c qemu:///system net-dumpxml vagrant-libvirt": "virsh-net-lab.xml",
}


def _route(network: str, **fields: Any) -> TableRoute:  # noqa: ANN401 - the fields of a route
    return TableRoute(IPv4Network(network), fields.pop("device", "tun0"), **fields)


@pytest.mark.parametrize(
    ("route", "takes"),
    [
        (_route("0.0.0.0/0"), False),
        (_route("0.0.0.0/1"), False),
        (_route("128.0.0.0/1"), False),
        (_route("192.0.0.0/2"), False),
        (_route("192.168.0.0/16"), False),
        (_route("192.168.56.0/23"), False),
        (_route("192.168.57.0/24"), False),
        (_route("192.168.56.0/24"), True),
        (_route("192.168.56.0/24", metric=600), True),
        (_route("192.168.56.128/25"), True),
        (_route("192.168.56.100/32"), True),
        (_route("192.168.56.0/24", kind="unreachable", metric=4294967295), False),
        (_route("192.168.56.0/24", kind="blackhole", metric=1), False),
        (_route("192.168.56.0/24", kind="prohibit", metric=0), True),
        (_route("192.168.0.0/16", kind="blackhole"), False),
        (_route("192.168.56.128/25", kind="unreachable", metric=4294967295), True),
        (_route("192.168.56.10/32", kind="throw"), True),
        (_route("192.168.56.0/24", kind="throw"), True),
        (_route("192.168.56.0/24", kind="throw", metric=600), False),
        (_route("192.168.56.1/32", kind="local", table="local"), False),
        (_route("192.168.56.0/24", table="52"), False),
    ],
)
def test_only_a_more_specific_route_conflicts_with_the_lab(route: TableRoute, *, takes: bool) -> None:
    assert conflicting_route(NETWORK, [route], DEFAULT_RULES) == (route if takes else None)


@pytest.mark.parametrize(
    ("rule", "takes"),
    [
        ({"src": "all", "table": "52"}, True),
        ({"src": "all", "table": "53"}, False),
        ({"src": "10.0.0.1", "table": "52"}, False),
        ({"src": "all", "fwmark": "0x1", "table": "52"}, False),
        ({"src": "all", "not": None, "fwmark": "0x1", "table": "52"}, True),
        ({"src": "all", "iif": "eth0", "table": "52"}, False),
        ({"src": "all", "dst": "10.0.0.0", "dstlen": 8, "table": "52"}, False),
        ({"src": "all", "dst": "192.168.56.10", "table": "52"}, True),
        ({"src": "all", "not": None, "dst": "10.0.0.0", "dstlen": 8, "table": "52"}, True),
        ({"src": "all", "table": "52", "suppress_prefixlen": 16}, False),
        ({"src": "all", "action": "unreachable"}, True),
        ({"src": "all", "dst": "10.0.0.0", "dstlen": 8, "action": "prohibit"}, False),
        # The main table, with the lab's route in it, comes first.
        ({"src": "all", "table": "52", "priority": 40000}, False),
    ],
)
def test_any_route_conflicts_if_a_rule_precedes_the_main_table(rule: dict[str, Any], *, takes: bool) -> None:
    ordered = sorted([{"priority": 100, **rule}, *DEFAULT_RULES], key=lambda each: each["priority"])
    conflicting = conflicting_route(NETWORK, [_route("192.168.0.0/16", table="52")], ordered)

    assert (conflicting is not None) == takes
    assert conflicting is None or conflicting.rule == 100


def test_a_throw_route_prevents_a_conflict() -> None:
    table_routes = [_route("192.168.0.0/16", table="52"), _route("192.168.56.0/24", table="52", kind="throw")]

    assert (
        conflicting_route(NETWORK, table_routes, [{"priority": 1, "src": "all", "table": "52"}, *DEFAULT_RULES]) is None
    )


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({RULES: "ip-rules-wireguard.json"}, "ok"),
        ({RULES: "ip-rules-unreachable.json"}, "ok"),
        ({RULES: "ip-rules-tailscale.json"}, "broken"),
    ],
    ids=["wireguard", "unreachable rule behind the main table", "tailscale with 192.168.0.0/16"],
)
def test_a_full_tunnel_is_ok_and_a_table_before_the_main_one_conflicts(
    context: Context, said: dict[str, Any], state: str
) -> None:
    finding = run_check("network", context, outputs=VPN | said)

    assert finding.state == state
    assert ("ip rule add to 192.168.56.0/24 lookup main priority 5269" in finding.fix) == (state == "broken")


def test_without_ip_routes_are_read_from_proc(context: Context) -> None:
    machine = {"absent": {"ip"}, "files": {"/proc/net/route": text("proc-route-vpn.txt")}}

    assert run_check("network", context, **machine).state == "ok"
    assert run_check("network", replace(context, lab=lab(network="192.168.60.0/24")), **machine).state == "broken"
    assert run_check("network", replace(context, lab=lab(network="10.8.0.0/24")), **machine).state == "broken"
    kernel = routes(Recorded(**machine))
    assert kernel is not None
    assert [(str(each.network), each.rejects, each.metric) for each in kernel[-2:]] == [
        ("192.168.56.0/24", True, 4294967295),
        ("192.168.60.0/24", True, 0),
    ]
    assert list(rules(Recorded(**machine))) == list(DEFAULT_RULES)


@pytest.mark.parametrize(
    ("network", "wider"),
    [
        ("192.168.0.0/16", True),
        ("192.0.0.0/8", True),
        ("128.0.0.0/1", False),
        ("0.0.0.0/0", False),
        ("192.168.56.0/24", False),
        ("10.0.0.0/8", False),
    ],
)
def test_a_wider_route_that_the_lab_partly_hides_is_reported(network: str, *, wider: bool) -> None:
    assert (containing_route(NETWORK, [_route(network)]) is not None) == wider
    assert containing_route(NETWORK, [_route(network, kind="blackhole")]) is None


@pytest.mark.parametrize(
    ("identity", "network", "said", "named"),
    [
        ("docker-networks", "192.168.56.0/24", DOCKER, ["lan", "192.168.56.0/24"]),
        ("network", "192.168.60.0/24", DOCKER | OTHERS_BRIDGE, ["labctl-other"]),
        ("network", "192.168.56.0/24", LIBVIRT, ["virbr1", "vagrant-libvirt"]),
    ],
    ids=["a Docker network", "another lab's", "libvirt's"],
)
def test_the_owner_of_a_conflicting_network_is_named(
    context: Context, identity: str, network: str, said: dict[str, Any], named: list[str], golden: Golden
) -> None:
    finding = run_check(identity, replace(context, lab=lab(network=network)), outputs=said)

    assert finding.state == "broken"
    assert [name for name in named if name not in finding.observation] == []
    golden(finding.observation)


def test_a_routed_docker_network_is_reported_by_one_check(context: Context) -> None:
    requested = replace(context, lab=lab(network="192.168.60.0/24"))

    assert run_check("docker-networks", requested, outputs=DOCKER | OTHERS_BRIDGE).state == "not relevant"
    assert run_check("docker-networks", requested, outputs=DOCKER).state == "broken"


def test_networks_of_a_swarm_are_ignored(context: Context) -> None:
    assert (
        run_check("docker-networks", replace(context, lab=lab(network="192.168.70.0/24")), outputs=DOCKER).state == "ok"
    )


def test_an_address_in_the_labs_network_is_a_conflict_with_any_prefix_length(context: Context) -> None:
    link = '[{"ifname":"eth0","flags":["UP"],"addr_info":[{"family":"inet","local":"192.168.56.20","prefixlen":16}]}]'
    said = {ROUTES: ('[{"dst":"192.168.0.0/16","dev":"eth0","flags":[]}]', 0), "ip -j address show": (link, 0)}

    assert run_check("network", context, outputs=said).state == "broken"
    assert run_check("network", context, outputs={**said, "ip -j address show": ("[]", 0)}).state == "warning"


def test_networks_of_an_isolated_lab_are_read_from_its_own_engine(context: Context) -> None:
    requested = replace(context, isolated=True)
    docker = f"docker --host {requested.isolation.engine}"
    inside = {
        f"{docker} network ls --quiet": ("a58c\n", 0),
        f"{docker} network inspect a58c": "docker-networks-ipvlan.json",
    }
    own = ('[{"Name": "labctl-demo", "Id": "1", "IPAM": {"Config": [{"Subnet": "192.168.56.0/24"}]}}]', 0)
    older = (
        own[0]
        .replace("labctl-demo", "vagrant_network")
        .replace('"1",', '"1", "Containers": {"c": {"Name": "demo-worker-1"}},')
    )
    absent = {f"{docker} network ls --quiet": ("failed to connect", 1)}

    conflicting = run_check("docker-networks", requested, outputs={**DOCKER, **inside})
    assert (conflicting.state, "`labctl exec -- docker network rm lan`" in conflicting.fix) == ("broken", True)
    assert (
        run_check("docker-networks", requested, outputs={**inside, f"{docker} network inspect a58c": own}).state == "ok"
    )
    assert (
        run_check("docker-networks", requested, outputs={**inside, f"{docker} network inspect a58c": (older, 0)}).state
        == "ok"
    )
    assert run_check("docker-networks", requested, outputs={**DOCKER, **absent}).state == "not relevant"
