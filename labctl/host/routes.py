"""The routing tables of this machine, and the rules that choose one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from labctl.host.arp import gateway
from labctl.host.machine import Machine
from labctl.host.parsing import ipv4_network, parse_json

IP_ROUTES = ("ip", "-j", "-4", "route", "show", "table", "all")
IP_RULES = ("ip", "-j", "-4", "rule", "show")
KERNEL_ROUTES = Path("/proc/net/route")
"""The routes of the main table: a line each, destination and mask as hexadecimal numbers in the machine's byte order."""
MAIN = "main"
LOCAL = "local"
"""The kind of route to an address of this machine, and the table of such routes."""
UNICAST = "unicast"
REJECTING = ("unreachable", "blackhole", "prohibit", "throw")
NO_INTERFACE = "*"
SUPPRESSED = "suppress_prefixlen"
"""The prefix length up to which a rule skips the routes of its table."""
KNOWN_FIELDS = frozenset({"priority", "src", "srclen", "dst", "dstlen", "table", "action", "protocol", SUPPRESSED})
"""The fields of a rule that labctl understands; a rule with others is skipped, since it may not apply."""
DEFAULT_RULES: tuple[Mapping[str, Any], ...] = ({"priority": 32766, "src": "all", "table": MAIN},)


@dataclass(frozen=True, slots=True)
class TableRoute:
    """A route of a routing table. `kind` is the name `ip` gives it: unicast, unreachable, throw and so on."""

    network: IPv4Network
    device: str
    kind: str = UNICAST
    table: str = MAIN
    metric: int = 0
    gateway: str = ""
    source: str = ""
    rule: int | None = None
    """The priority of the rule that chooses its table, if that rule comes before the main table's."""

    @property
    def rejects(self) -> bool:
        """Return whether it refuses the packets that take it."""
        return self.kind in REJECTING


def routes(machine: Machine) -> tuple[TableRoute, ...] | None:
    """Return the routes of all tables, or of the main one if `ip` is missing; None on systems other than Linux."""
    answer = machine.run(*IP_ROUTES)
    if answer is not None and answer.code == 0 and (listed := parse_json(answer.out, list)):
        return parse_routes(listed)
    text = machine.read(KERNEL_ROUTES)
    return None if text is None else tuple(_kernel_routes(text))


def rules(machine: Machine) -> Sequence[Mapping[str, Any]]:
    """Return the rules that choose a table, in their order."""
    answer = machine.run(*IP_RULES)
    listed: list[Mapping[str, Any]] = parse_json(answer.out, list) if answer is not None and answer.code == 0 else []
    return sort_rules(listed) or DEFAULT_RULES


def sort_rules(listed: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the rules that `ip` lists in the order in which the kernel applies them."""
    return sorted(listed, key=lambda rule: int(rule["priority"]))


def parse_routes(listed: Sequence[Mapping[str, Any]]) -> tuple[TableRoute, ...]:
    """Return the routes that `ip` lists."""
    return tuple(_parse_routes(listed))


def overriding_rule(
    known_rules: Sequence[Mapping[str, Any]],
    known_routes: Sequence[TableRoute],
    target: IPv4Address,
    source: IPv4Address | None = None,
    direct: str = "",
    through: str = "",
) -> Mapping[str, Any] | None:
    """Return the rule that routes packets to an address before the main table does; None if the main table does.

    The packets of a connection that this machine opens have no source yet. A table with a route to the interface
    `direct` counts as the main table, if that route has the gateway `through`, or none if that is empty.
    """
    for rule in known_rules:
        if not rule.keys() <= KNOWN_FIELDS or not _selects(rule, "dst", target) or not _selects(rule, "src", source):
            continue
        table = rule.get("table")
        shortest = rule.get(SUPPRESSED, -1)
        if table == MAIN and shortest < 0:
            return None
        if table is None:
            return rule if rule.get("action") in REJECTING else None
        in_table = (each for each in known_routes if each.table == table and each.network.prefixlen > shortest)
        taking = [each for each in in_table if target in each.network]
        closest = min(taking, key=lambda each: (-each.network.prefixlen, each.metric), default=None)
        if closest is not None and closest.kind != "throw":
            return None if table in {LOCAL, MAIN} or _leads(closest, direct, through) else rule
    return None


def rule_text(rule: Mapping[str, Any]) -> str:
    """Return a rule in the syntax of `ip rule`."""
    ends = [
        (word, f"{rule[key]}/{rule[f'{key}len']}" if f"{key}len" in rule else rule[key])
        for word, key in (("from", "src"), ("to", "dst"))
        if key in rule
    ]
    does = ("lookup", rule["table"]) if "table" in rule else (rule.get("action", ""),)
    return " ".join(str(word) for word in (*(word for end in ends for word in end), *does, "pref", rule["priority"]))


def _leads(route: TableRoute, device: str, through: str) -> bool:
    return route.kind == UNICAST and route.gateway == through and route.device == device != ""


def _selects(rule: Mapping[str, Any], end: str, address: IPv4Address | None) -> bool:
    if rule.get(end, "all") == "all":
        return True
    network = ipv4_network(f"{rule[end]}/{rule.get(f'{end}len', 32)}")
    return address is not None and network is not None and address in network


def _parse_routes(listed: Sequence[Mapping[str, Any]]) -> Iterator[TableRoute]:
    for each in listed:
        network = ipv4_network("0.0.0.0/0" if each.get("dst") == "default" else str(each.get("dst")))
        if network is not None:
            hop = each if "dev" in each else next(iter(each.get("nexthops", ())), each)
            kind, table = each.get("type", UNICAST), str(each.get("table", MAIN))
            device, source = hop.get("dev", ""), each.get("prefsrc", "")
            yield TableRoute(network, device, kind, table, each.get("metric", 0), gateway(hop), source)


def _kernel_routes(text: str) -> Iterator[TableRoute]:
    for line in text.splitlines()[1:]:
        device, destination, _gateway, _flags, _count, _use, metric, mask, *_ = line.split()
        network = IPv4Network((_address(destination), str(_address(mask))))
        kind = "unreachable" if device == NO_INTERFACE else UNICAST
        yield TableRoute(network, "" if device == NO_INTERFACE else device, kind, metric=int(metric))


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder))
