"""Tests of evaluating a packet against the rules that nft lists."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any

import pytest

from labctl.trace.probes import filters
from labctl.trace.probes.filters import Stop
from labctl.trace.probes.packets import Packet

MACHINE, ADDRESS = IPv4Address("192.168.56.1"), IPv4Address("192.168.56.100")
PACKET = Packet(MACHINE, ADDRESS, None, 80, None, "br-demo", "new")
Expression = list[dict[str, Any]]


def _payload_match(protocol: str, field: str, value: object, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"payload": {"protocol": protocol, "field": field}}, "right": value}}


def _key_match(kind: str, key: str, value: object, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {kind: {"key": key}}, "right": value}}


TO_US, PORT = _payload_match("ip", "daddr", str(ADDRESS)), _payload_match("tcp", "dport", 80)
DROP, ACCEPT, RETURN = {"drop": None}, {"accept": None}, {"return": None}
REJECT = {"reject": {"type": "icmp", "expr": "host-unreachable"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
UNKNOWN = {"xt": {"type": "match", "name": "statistic"}}
BOTH = {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"meta": {"key": "l4proto"}}]}


def _ruleset(
    *chains: tuple[str, dict[str, Any], list[Expression]], sets: dict[str, Any] | None = None, **own: object
) -> filters.Ruleset:
    table: dict[str, Any] = {"family": "inet", "table": "fw"}
    listed: list[dict[str, Any]] = [{"metainfo": {}}, {"table": {"family": "inet", "name": "fw", **own}}]
    listed += [{"set": {**table, "name": name, "elem": elements}} for name, elements in (sets or {}).items()]
    handle = 0
    for name, fields, rules in chains:
        listed.append({"chain": {**table, "name": name, **fields}})
        for expression in rules:
            handle += 1
            listed.append({"rule": {**table, "chain": name, "handle": handle, "expr": expression}})
    return filters.parse(json.dumps({"nftables": listed}))


def _stop(*rules: Expression, sets: dict[str, Any] | None = None, policy: str = "accept") -> Stop | None:
    base = {"hook": "output", "prio": 0, "policy": policy}
    return _ruleset(("out", base, list(rules)), sets=sets).stop(PACKET, "output", "postrouting")


@pytest.mark.parametrize(
    ("expression", "effect"),
    [
        ([DROP], "drop"),
        ([TO_US, PORT, COUNTER, DROP], "drop"),
        ([TO_US, PORT, COUNTER, {"xt": {"type": "target", "name": "DNAT"}}], "dnat"),
        ([TO_US, REJECT], "reject"),
        ([{"xt": {"type": "match", "name": "comment"}}, PORT, {"xt": {"type": "target", "name": "REJECT"}}], "reject"),
        ([_payload_match("ip", "daddr", {"prefix": {"addr": "192.168.56.0", "len": 24}}), DROP], "drop"),
        ([_payload_match("ip", "daddr", {"range": ["192.168.56.99", "192.168.56.101"]}), DROP], "drop"),
        ([_payload_match("ip", "daddr", "10.0.0.1", "!="), DROP], "drop"),
        ([_payload_match("tcp", "dport", {"set": [443, {"range": [79, 81]}]}), DROP], "drop"),
        ([_payload_match("tcp", "dport", {"range": [1, 1023]}), DROP], "drop"),
        ([_payload_match("th", "dport", 80), _payload_match("ip", "protocol", "tcp"), DROP], "drop"),
        ([_payload_match("ip", "protocol", 6), DROP], "drop"),
        ([_key_match("meta", "oifname", "br-*"), DROP], "drop"),
        ([_key_match("meta", "l4proto", {"set": ["tcp", "udp"]}), DROP], "drop"),
        ([_key_match("ct", "state", ["new", "untracked"], "in"), DROP], "drop"),
        ([_payload_match("ip", "daddr", "@bad"), DROP], "drop"),
        ([{"match": {"op": "==", "left": BOTH, "right": {"set": [{"concat": [str(ADDRESS), "tcp"]}]}}}, DROP], "drop"),
        ([{"dnat": {"addr": "10.0.0.1"}}], "dnat"),
        ([{"vmap": {"key": BOTH["concat"][0], "data": {"set": [[str(ADDRESS), DROP]]}}}], "drop"),
    ],
)
def test_a_rule_that_definitely_stops_the_packet_is_named(expression: Expression, effect: str) -> None:
    bad = {"bad": [{"elem": {"val": "10.0.0.1"}}, {"prefix": {"addr": "192.168.56.96", "len": 28}}]}

    stop = _stop([UNKNOWN, DROP], expression, sets=bad)

    assert stop == Stop("inet", "fw", "out", 2, effect)
    assert stop.effect == ("redirects" if effect == "dnat" else "drops")


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [[TO_US, COUNTER]],
        [[_payload_match("ip", "daddr", "10.0.0.1"), DROP]],
        [[_payload_match("tcp", "dport", 443), DROP]],
        [[_payload_match("udp", "dport", 80), DROP]],
        [[_key_match("meta", "oifname", "eth0"), DROP]],
        [[_key_match("ct", "state", "invalid", "in"), DROP]],
        [[_payload_match("ip", "daddr", "@gone"), DROP]],
        [[UNKNOWN, DROP]],
        [[{"limit": {"rate": 1}}, DROP]],
        [[{"quota": {"val": 1, "val_unit": "bytes", "inv": True}}, DROP]],
        [[{"ct count": {"val": 1, "inv": True}}, DROP]],
        [[{"set": {"op": "add", "elem": BOTH["concat"][0], "set": "@met", "stmt": [{"limit": {"rate": 1}}]}}, DROP]],
        [[_payload_match("tcp", "sport", 40000), DROP]],
        [[_key_match("meta", "mark", 1), DROP]],
        [[ACCEPT], [DROP]],
        [[TO_US, PORT, ACCEPT], [DROP]],
        [[UNKNOWN, ACCEPT], [DROP]],
        [[RETURN], [DROP]],
        [[{"queue": {"num": 0}}], [DROP]],
        [[{"xt": {"type": "target", "name": "NFQUEUE"}}], [DROP]],
        [[{"vmap": {"key": BOTH["concat"][0], "data": {"set": [["10.0.0.1", DROP]]}}}]],
    ],
)
def test_a_packet_that_passes_or_might_pass_is_not_reported_as_stopped(rules: list[Expression]) -> None:
    assert _stop(*rules) is None


@pytest.mark.parametrize(
    ("jump", "target", "handle"),
    [
        ([TO_US, {"jump": {"target": "more"}}], [[PORT, DROP]], 3),
        ([TO_US, {"goto": {"target": "more"}}], [[PORT, DROP]], 3),
        ([TO_US, {"jump": {"target": "more"}}], [[RETURN], [DROP]], 2),
        ([TO_US, {"goto": {"target": "more"}}], [[RETURN], [DROP]], None),
        ([TO_US, {"jump": {"target": "more"}}], [[ACCEPT]], None),
        ([UNKNOWN, {"jump": {"target": "more"}}], [[ACCEPT]], None),
        ([UNKNOWN, {"jump": {"target": "more"}}], [[DROP]], 2),
        ([UNKNOWN, {"jump": {"target": "more"}}], [], 2),
        ([{"jump": {"target": "gone"}}], [], 2),
    ],
)
def test_jumps_and_gotos_are_followed(jump: Expression, target: list[Expression], handle: int | None) -> None:
    rules = _ruleset(("out", {"hook": "output", "prio": 0}, [jump, [DROP]]), ("more", {}, target))
    stop = rules.stop(PACKET, "output")

    assert (stop and stop.handle) == handle


CHANCE = {"match": {"op": "<", "left": {"numgen": {"mode": "random", "mod": 10, "offset": 0}}, "right": 3}}


@pytest.mark.parametrize(
    ("rules", "handle", "is_by_chance"),
    [
        ([[TO_US, PORT, CHANCE, DROP]], 1, True),
        ([[CHANCE, TO_US, REJECT]], 1, True),
        ([[CHANCE, DROP], [DROP]], 2, False),
        ([[TO_US, ACCEPT], [CHANCE, DROP]], None, False),
        ([[UNKNOWN, CHANCE, DROP]], None, False),
        ([[UNKNOWN, ACCEPT], [CHANCE, DROP]], None, False),
        ([[CHANCE, ACCEPT], [DROP]], None, False),
        ([[_payload_match("tcp", "dport", 443), CHANCE, DROP]], None, False),
    ],
)
def test_a_rule_that_stops_packets_by_chance_is_named_if_no_other_one_stops_them(
    rules: list[Expression], handle: int | None, *, is_by_chance: bool
) -> None:
    stop = _stop(*rules)

    assert (stop and stop.handle) == handle
    assert stop is None or (stop.is_by_chance, "sometimes" in stop.effect) == (is_by_chance, is_by_chance)


def test_a_drop_policy_stops_packets_that_no_rule_accepts() -> None:
    assert _stop([UNKNOWN, DROP], policy="drop") == Stop("inet", "fw", "out", None, "drop")
    assert _stop([UNKNOWN, ACCEPT], policy="drop") is None
    assert _stop([TO_US, ACCEPT], policy="drop") is None


@pytest.mark.parametrize(
    ("flags", "stops"), [(["dormant"], False), ("dormant", False), ("fw", False), ("owner", True), ([], True)]
)
def test_a_dormant_table_stops_nothing(flags: object, stops: bool) -> None:  # noqa: FBT001 - a column of the table
    rules = _ruleset(("out", {"hook": "output"}, [[DROP]]), flags=flags)

    assert (rules.stop(PACKET, "output") is not None) == stops


def test_chains_run_by_priority_and_an_accept_ends_only_its_chain() -> None:
    first = ("a", {"hook": "output", "prio": "raw"}, [[ACCEPT]])
    second = ("b", {"hook": "output", "prio": 10}, [[DROP]])
    third = ("c", {"hook": "output", "prio": 5}, [[REJECT]])

    assert _ruleset(first, second, third).stop(PACKET, "output") == Stop("inet", "fw", "c", 3, "reject")
    assert _ruleset(first, second, third).stop(PACKET, "input") is None


def test_a_rule_is_shown_as_nft_lists_it_with_the_command_that_deletes_it() -> None:
    listing = """table ip filter { # handle 1
\tchain OUTPUT { # handle 2
\t\ttcp dport 80 drop # handle 7
\t}
}
table inet fw { # handle 9
\tchain out { # handle 1
\t\ttype filter hook output priority filter; policy drop;
\t\tip daddr 192.168.56.100 drop # handle 7
\t}
}
"""
    rule, policy = Stop("inet", "fw", "out", 7, "drop"), Stop("inet", "fw", "out", None, "drop")

    assert filters.wording(listing, rule) == "table inet fw, chain out: ip daddr 192.168.56.100 drop"
    assert filters.wording("", rule) == "table inet fw, chain out: drop"
    assert filters.wording(listing, policy) == "table inet fw, chain out: policy drop"
    assert rule.removal == ("nft", "delete", "rule", "inet", "fw", "out", "handle", "7")
    assert policy.removal == ("nft", "add", "chain", "inet", "fw", "out", "{ policy accept; }")


@pytest.mark.parametrize("text", ["", "nothing", '{"nftables": [}'])
def test_invalid_nft_output_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        filters.parse(text)
