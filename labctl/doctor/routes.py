"""The routes of this machine, and whether packages for the lab would take one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from labctl.host.machine import Machine
from labctl.host.parsing import document, ipv4_network

IP_ROUTES = ("ip", "-j", "-4", "route", "show", "table", "all")
IP_RULES = ("ip", "-j", "-4", "rule", "show")
KERNEL_ROUTES = Path("/proc/net/route")
"""The routes of the main table: a line each, destination and mask as hexadecimal numbers in the machine's byte order."""
MAIN = "main"
UNICAST = "unicast"
REJECTING = ("unreachable", "blackhole", "prohibit", "throw")
OWN = ("local", "broadcast", "multicast", "anycast")
"""What the kernel has for the machine's own addresses."""
NO_INTERFACE = "*"
SMALLEST_PRIVATE_PREFIX = 8
"""A route that is wider than any private network is a default route in pieces, as VPNs have it."""
SELECTORS = ("fwmark", "iif", "oif", "uid_start", "ipproto", "sport", "dport", "tos", "dsfield", "l3mdev")
"""What narrows a rule to some packets: those of the lab are taken to be others."""
DEFAULT_RULES: tuple[Mapping[str, Any], ...] = ({"priority": 32766, "src": "all", "table": MAIN},)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a table. `kind` is as `ip` says: unicast, unreachable, throw and so on."""

    network: IPv4Network
    device: str
    kind: str = UNICAST
    table: str = MAIN
    metric: int = 0
    rule: int | None = None
    """The priority of the rule by which a packet comes to it, if that is one before the main table's."""

    @property
    def rejects(self) -> bool:
        """Return whether packets that take it go nowhere in its table."""
        return self.kind in REJECTING


def routes(machine: Machine) -> tuple[Route, ...] | None:
    """Return the routes of all tables, or of the main one where there is no `ip`; None where nobody tells."""
    said = machine.run(*IP_ROUTES)
    if said is not None and said.code == 0 and (listed := document(said.out, list)):
        return tuple(_of_ip(listed))
    text = machine.read(KERNEL_ROUTES)
    return None if text is None else tuple(_of_kernel(text))


def rules(machine: Machine) -> Sequence[Mapping[str, Any]]:
    """Return the rules that choose a table, in their order."""
    said = machine.run(*IP_RULES)
    listed: list[Mapping[str, Any]] = document(said.out, list) if said is not None and said.code == 0 else []
    return sorted(listed, key=lambda rule: rule["priority"]) or DEFAULT_RULES


def conflict(network: IPv4Network, known: Sequence[Route], ordered: Sequence[Mapping[str, Any]]) -> Route | None:
    """Return the route that would take packets for the lab from the lab's own, which is in the main table; None: none."""
    for rule in ordered:
        if not _applies(rule, network):
            continue
        if rule.get("action") in REJECTING:
            return Route(network, "", rule["action"], table="", rule=rule["priority"])
        least = rule.get("suppress_prefixlen", -1)
        table = rule.get("table", "")
        there = [each for each in known if each.table == table and each.network.prefixlen > least]
        if table == MAIN:
            # The lab's own route will be here, and is taken unless another one is closer.
            if network.prefixlen > least:
                return next((each for each in there if _is_closer(each, network)), None)
        elif taken := _taken_before(there, network):
            return Route(taken.network, taken.device, taken.kind, table, taken.metric, rule["priority"])
    return None


def hidden(network: IPv4Network, known: Sequence[Route]) -> Route | None:
    """Return the narrowest wider route, of which the lab takes a part; a default route in pieces is none."""
    wider = [
        each
        for each in known
        if each.table == MAIN
        and not each.rejects
        and SMALLEST_PRIVATE_PREFIX <= each.network.prefixlen < network.prefixlen
        and network.subnet_of(each.network)
    ]
    return max(wider, key=lambda each: each.network.prefixlen, default=None)


def _applies(rule: Mapping[str, Any], network: IPv4Network) -> bool:
    """Return whether the rule is about packets from this machine to the lab."""
    if rule.get("src", "all") != "all":
        return False
    narrowed = any(selector in rule for selector in SELECTORS)
    if "dst" in rule:
        to = ipv4_network(f"{rule['dst']}/{rule.get('dstlen', 32)}")
        narrowed = narrowed or to is None or not to.overlaps(network)
    return narrowed == ("not" in rule)


def _is_closer(route: Route, network: IPv4Network) -> bool:
    """Return whether the route takes packets although the lab has its own: it is narrower, or equal and was there before."""
    if route.kind in OWN or not route.network.subnet_of(network):
        return False
    # The lab's own route has the metric 0, which is the best, and comes behind one that has it already.
    return route.network != network or not route.rejects or route.metric == 0


def _taken_before(there: Sequence[Route], network: IPv4Network) -> Route | None:
    """Return the route of an earlier table that takes packets for a part of the lab."""
    found = [each for each in there if each.kind not in OWN and each.network.overlaps(network)]
    narrowest = max(found, key=lambda each: each.network.prefixlen, default=None)
    return None if narrowest is None or narrowest.kind == "throw" else narrowest


def _of_ip(listed: Sequence[Mapping[str, Any]]) -> Iterator[Route]:
    for each in listed:
        network = ipv4_network("0.0.0.0/0" if each.get("dst") == "default" else str(each.get("dst")))
        if network is not None:
            device = each.get("dev") or next((hop.get("dev", "") for hop in each.get("nexthops", ())), "")
            kind, table = each.get("type", UNICAST), str(each.get("table", MAIN))
            yield Route(network, device, kind, table, each.get("metric", 0))


def _of_kernel(text: str) -> Iterator[Route]:
    for line in text.splitlines()[1:]:
        device, destination, _gateway, _flags, _count, _use, metric, mask, *_ = line.split()
        network = IPv4Network((_address(destination), str(_address(mask))))
        kind = "unreachable" if device == NO_INTERFACE else UNICAST
        yield Route(network, "" if device == NO_INTERFACE else device, kind, metric=int(metric))


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder))
