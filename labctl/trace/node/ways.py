"""Find why this machine has no direct route to an address, from its routes and interfaces."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from ipaddress import IPv4Address

from labctl.host.arp import Route
from labctl.host.routes import MAIN, TableRoute
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.trail import Trail

LOCAL = "local"
"""The kind of route to an address of this machine, and the table of such routes."""
TABLES = frozenset({MAIN, LOCAL})
FARTHEST = 4294967295
"""The metric of an isolated lab's own unreachable routes."""


def here(trail: Trail, *words: str) -> str:
    """Return a command that runs in the network that this machine shares with the nodes."""
    if trail.context.isolated:
        return labctl(trail.lab.name, "exec", "--", *words)
    return shlex.join(words if trail.client.is_root else ("sudo", *words))


def require_direct(trail: Trail, route: Route | None) -> Route:
    """Return the route if it leads to the lab's own network. Raises ProblemError."""
    if route is not None and not route.gateway and route.source == trail.lab.gateway:
        return route
    course = _told(route)
    text = f"this machine has no direct route to {trail.address}, port 80: {course}"
    if problem := _in_the_way(trail, route, text) or _interface(trail, text):
        raise problem
    if route is not None and not route.gateway:
        return route  # another source address, but as direct
    raise ProblemError("route-missing", f"{text}: the lab's network does not exist")


def _told(route: Route | None) -> str:
    if route is None:
        return "the route rejects it"
    return f"the route goes via {route.gateway or route.source} on {route.device}"


def _in_the_way(trail: Trail, route: Route | None, text: str) -> ProblemError | None:
    """Return a problem if another route takes precedence over the lab's own."""
    routes = [each for each in trail.client.routes() if _contains(each, trail.address)]
    closest = min(routes, key=_rank, default=None)
    if closest is None or _is_labs(trail, closest):
        return None
    if closest.network.prefixlen == 0 or (route is not None and not route.gateway and closest.kind != LOCAL):
        return None
    if closest.kind == LOCAL:
        line = ("ip", "address", "del", f"{trail.address}/32", "dev", closest.device)
        return ProblemError(
            "route-in-the-way",
            f"{text}; this machine has the address itself, on {closest.device}",
            fix="Remove the address from this machine.",
            commands=(here(trail, *line),),
        )
    return ProblemError(
        "route-in-the-way",
        f"{text}; the route `{' '.join(_words(closest))}` takes precedence over the lab's",
        fix="Remove the route.",
        commands=(here(trail, "ip", "route", "del", *_words(closest)),),
    )


def _interface(trail: Trail, text: str) -> ProblemError | None:
    """Return a problem with this machine's interface in the lab's network."""
    gateway, lab = trail.lab.gateway, trail.lab
    for each in trail.client.interfaces():
        if gateway in {address.ip for address in each.addresses} and not each.is_up:
            return ProblemError(
                "interface-down",
                f"{text}; its interface {each.name} in the lab's network is down",
                fix="Bring the interface up.",
                commands=(here(trail, "ip", "link", "set", each.name, "up"),),
            )
    bridge = trail.client.bridge(trail.context)
    if any(each.name == bridge for each in trail.client.interfaces()):
        prefix = f"{gateway}/{lab.network.prefixlen}"
        return ProblemError(
            "interface-down",
            f"{text}; its interface {bridge} in the lab's network has lost the address {gateway}",
            fix="Add the address to the interface.",
            commands=(here(trail, "ip", "address", "add", prefix, "dev", bridge),),
        )
    return None


def _contains(route: TableRoute, address: IPv4Address) -> bool:
    return route.table in TABLES and route.kind not in {"broadcast", "multicast"} and address in route.network


def _rank(route: TableRoute) -> tuple[bool, int, int]:
    return route.table != LOCAL, -route.network.prefixlen, route.metric


def _is_labs(trail: Trail, route: TableRoute) -> bool:
    return route.metric == FARTHEST or (route.source == str(trail.lab.gateway) and route.kind != LOCAL)


def _words(route: TableRoute) -> Sequence[str]:
    kind = [route.kind] if route.rejects else []
    rest = [
        word
        for name, value in (("via", route.gateway), ("dev", route.device), ("metric", route.metric))
        if value
        for word in (name, str(value))
    ]
    return [*kind, str(route.network).removesuffix("/32"), *rest]
