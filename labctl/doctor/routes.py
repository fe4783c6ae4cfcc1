"""Routes of this machine that would take packets for the lab from the lab's own route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from labctl.host.parsing import ipv4_network
from labctl.host.routes import MAIN, REJECTING, TableRoute

OWN = ("local", "broadcast", "multicast", "anycast")
"""The kinds of routes that the kernel adds for the machine's own addresses."""
SMALLEST_PRIVATE_PREFIX = 8
"""A route wider than any private network is a part of a split default route, as VPNs add it."""
SELECTORS = ("fwmark", "iif", "oif", "uid_start", "ipproto", "sport", "dport", "tos", "dsfield", "l3mdev")
"""Selectors that limit a rule to some packets; those for the lab are assumed not to match."""


def conflicting_route(
    network: IPv4Network, known: Sequence[TableRoute], ordered: Sequence[Mapping[str, Any]]
) -> TableRoute | None:
    """Return the route that would take packets from the lab's own route in the main table; None if there is none."""
    for rule in ordered:
        if not _applies(rule, network):
            continue
        if rule.get("action") in REJECTING:
            return TableRoute(network, "", rule["action"], table="", rule=rule["priority"])
        least = rule.get("suppress_prefixlen", -1)
        table = rule.get("table", "")
        there = [each for each in known if each.table == table and each.network.prefixlen > least]
        if table == MAIN:
            # The lab's own route will be in this table, and applies unless another one is more specific.
            if network.prefixlen > least:
                return next((each for each in there if _is_closer(each, network)), None)
        elif taken := _earlier_route(there, network):
            return replace(taken, rule=rule["priority"])
    return None


def containing_route(network: IPv4Network, known: Sequence[TableRoute]) -> TableRoute | None:
    """Return the most specific route that is wider than the lab's network and contains it, but no default route."""
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
    """Return whether the rule applies to packets from this machine to the lab."""
    if rule.get("src", "all") != "all":
        return False
    narrowed = any(selector in rule for selector in SELECTORS)
    if "dst" in rule:
        to = ipv4_network(f"{rule['dst']}/{rule.get('dstlen', 32)}")
        narrowed = narrowed or to is None or not to.overlaps(network)
    return narrowed == ("not" in rule)


def _is_closer(route: TableRoute, network: IPv4Network) -> bool:
    """Return whether the route has precedence over the lab's own: it is more specific, or equal and older."""
    if route.kind in OWN or not route.network.subnet_of(network):
        return False
    # The lab's own route has metric 0, the best; an older route with that metric still has precedence.
    return route.network != network or not route.rejects or route.metric == 0


def _earlier_route(there: Sequence[TableRoute], network: IPv4Network) -> TableRoute | None:
    """Return the route of an earlier table that takes packets for a part of the lab."""
    taken = [each for each in there if each.kind not in OWN and each.network.overlaps(network)]
    narrowest = max(taken, key=lambda each: each.network.prefixlen, default=None)
    return None if narrowest is None or narrowest.kind == "throw" else narrowest
