"""Why this machine has no direct route to an address: its own routes and interfaces."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.host.arp import Route
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.trail import Trail

REFUSING = frozenset({"unreachable", "blackhole", "prohibit", "throw"})
TABLES = frozenset({"main", "local"})
FARTHEST = 4294967295
"""The metric of an isolated lab's own unreachable routes."""


def here(trail: Trail, *words: str) -> str:
    """Return a command line for the network that this machine has in common with the nodes."""
    if trail.context.isolated:
        return labctl(trail.lab.name, "exec", "--", *words)
    return shlex.join(words if trail.client.is_root else ("sudo", *words))


def require_direct(trail: Trail, route: Route | None) -> Route:
    """Return the route if it leads to the lab's own network. Raises ProblemError."""
    if route is not None and not route.gateway and route.source == trail.lab.gateway:
        return route
    told = _told(route)
    text = f"this machine has no direct route to {trail.address}, port 80: {told}"
    if problem := _in_the_way(trail, route, text) or _interface(trail, text):
        raise problem
    if route is not None and not route.gateway:
        return route  # another address of this machine's, and as direct
    raise ProblemError("route-missing", f"{text}: the lab's network is not there")


def _told(route: Route | None) -> str:
    if route is None:
        return "its routes refuse it"
    return f"it goes by {route.gateway or route.source} on {route.device}"


def _in_the_way(trail: Trail, route: Route | None, text: str) -> ProblemError | None:
    """Return the route that wins over the lab's own, where somebody has made one."""
    found = [each for each in trail.client.routes() if _contains(each, trail.address)]
    closest = min(found, key=_rank, default=None)
    if closest is None or _is_labs(trail, closest):
        return None
    is_default = closest["dst"] == "default"
    if is_default or (route is not None and not route.gateway and closest.get("type") != "local"):
        return None
    if closest.get("type") == "local":
        line = ("ip", "address", "del", f"{trail.address}/32", "dev", closest["dev"])
        return ProblemError(
            "route-in-the-way",
            f"{text}; the address is one of this machine's own, on {closest['dev']}",
            fix="Take the address from this machine.",
            commands=(here(trail, *line),),
        )
    return ProblemError(
        "route-in-the-way",
        f"{text}; the route `{' '.join(_words(closest))}` wins over the lab's",
        fix="Take the route away.",
        commands=(here(trail, "ip", "route", "del", *_words(closest)),),
    )


def _interface(trail: Trail, text: str) -> ProblemError | None:
    """Return what is wrong with this machine's interface in the lab's network."""
    gateway, lab = trail.lab.gateway, trail.lab
    for each in trail.client.interfaces():
        if str(gateway) in {one["local"] for one in each.get("addr_info", [])} and "UP" not in each.get("flags", ()):
            return ProblemError(
                "interface-down",
                f"{text}; its interface {each['ifname']} in the lab's network is down",
                fix="Bring the interface up.",
                commands=(here(trail, "ip", "link", "set", each["ifname"], "up"),),
            )
    bridge = trail.client.bridge(trail.context)
    if any(each["ifname"] == bridge for each in trail.client.interfaces()):
        prefix = f"{gateway}/{lab.network.prefixlen}"
        return ProblemError(
            "interface-down",
            f"{text}; its interface {bridge} in the lab's network has lost the address {gateway}",
            fix="Give the interface its address.",
            commands=(here(trail, "ip", "address", "add", prefix, "dev", bridge),),
        )
    return None


def _contains(route: Mapping[str, Any], address: IPv4Address) -> bool:
    if route.get("table", "main") not in TABLES or route.get("type") in {"broadcast", "multicast"}:
        return False
    return address in _network(route)


def _network(route: Mapping[str, Any]) -> IPv4Network:
    return IPv4Network("0.0.0.0/0" if route["dst"] == "default" else route["dst"])


def _rank(route: Mapping[str, Any]) -> tuple[bool, int, int]:
    return route.get("table") != "local", -_network(route).prefixlen, int(route.get("metric", 0))


def _is_labs(trail: Trail, route: Mapping[str, Any]) -> bool:
    return route.get("metric") == FARTHEST or (
        route.get("prefsrc") == str(trail.lab.gateway) and route.get("type") != "local"
    )


def _words(route: Mapping[str, Any]) -> Sequence[str]:
    kind = [route["type"]] if route.get("type") in REFUSING else []
    rest = [
        word
        for key, name in (("gateway", "via"), ("dev", "dev"), ("metric", "metric"))
        if key in route
        for word in (name, str(route[key]))
    ]
    return [*kind, route["dst"], *rest]
