"""The routing tables of this machine, and the rules that choose one."""

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
NO_INTERFACE = "*"
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
    """Return the routes of all tables, or of the main one where `ip` is missing; None on other systems than Linux."""
    answer = machine.run(*IP_ROUTES)
    if answer is not None and answer.code == 0 and (listed := document(answer.out, list)):
        return tuple(_of_ip(listed))
    text = machine.read(KERNEL_ROUTES)
    return None if text is None else tuple(_of_kernel(text))


def rules(machine: Machine) -> Sequence[Mapping[str, Any]]:
    """Return the rules that choose a table, in their order."""
    answer = machine.run(*IP_RULES)
    listed: list[Mapping[str, Any]] = document(answer.out, list) if answer is not None and answer.code == 0 else []
    return sorted(listed, key=lambda rule: rule["priority"]) or DEFAULT_RULES


def _of_ip(listed: Sequence[Mapping[str, Any]]) -> Iterator[TableRoute]:
    for each in listed:
        network = ipv4_network("0.0.0.0/0" if each.get("dst") == "default" else str(each.get("dst")))
        if network is not None:
            device = each.get("dev") or next((hop.get("dev", "") for hop in each.get("nexthops", ())), "")
            kind, table = each.get("type", UNICAST), str(each.get("table", MAIN))
            gateway, source = each.get("gateway", ""), each.get("prefsrc", "")
            yield TableRoute(network, device, kind, table, each.get("metric", 0), gateway, source)


def _of_kernel(text: str) -> Iterator[TableRoute]:
    for line in text.splitlines()[1:]:
        device, destination, _gateway, _flags, _count, _use, metric, mask, *_ = line.split()
        network = IPv4Network((_address(destination), str(_address(mask))))
        kind = "unreachable" if device == NO_INTERFACE else UNICAST
        yield TableRoute(network, "" if device == NO_INTERFACE else device, kind, metric=int(metric))


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder))
