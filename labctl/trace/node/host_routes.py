"""Find why this machine has no direct route to an address, from its routes and interfaces."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface

from labctl.host import routes
from labctl.host.arp import Route
from labctl.host.interfaces import Interface
from labctl.host.routes import LOCAL, MAIN, TableRoute
from labctl.host.tcp_connect import CONNECTED
from labctl.trace.probes import filters
from labctl.trace.probes.filters import Stop
from labctl.trace.problem import BROKEN, WARNING, ProblemError, labctl
from labctl.trace.trail import Trail

TABLES = frozenset({MAIN, LOCAL})
FARTHEST = 4294967295
"""The metric of an isolated lab's own unreachable routes."""


def host_command(trail: Trail, *words: str) -> str:
    """Return a command that runs in the network that this machine shares with the nodes."""
    if trail.context.isolated:
        return labctl(trail.lab.name, "exec", "--", *words)
    return shlex.join(words if trail.client.is_root else ("sudo", *words))


def packets_filtered(trail: Trail, listing: str, stop: Stop, what: str) -> ProblemError:
    """Return the problem that this machine's packet filter stops packets, with the command that removes the rule."""
    text = f"this machine's packet filter {stop.effect} {what}: {filters.wording(listing, stop)}"
    return ProblemError("filtered-here", text, fix="Remove the rule.", commands=(host_command(trail, *stop.removal),))


def require_direct(trail: Trail, route: Route | None) -> Route:
    """Return the route if it leads to the lab's own network. Raises ProblemError."""
    if route is not None and not route.gateway and route.source == trail.lab.gateway:
        return route
    course = _describe(route)
    text = f"this machine has no direct route to {trail.address}, port 80: {course}"
    if problem := _overriding_rule(trail, text) or _overriding_route(trail, route, text) or _interface(trail, text):
        problem.state = WARNING if _is_forwarded(trail, route) else BROKEN
        raise problem
    if route is not None and not route.gateway:
        return route  # direct, with another source address
    if any(_has_gateway(trail, each) for each in trail.client.interfaces()):
        fix = "Check the routes and the rules of this machine: `ip rule`, `ip route show table all`."
        raise ProblemError("route-missing", f"{text}; the reason is unknown", fix=fix, commands=())
    raise ProblemError("route-missing", f"{text}: the lab's network does not exist")


def _describe(route: Route | None) -> str:
    if route is None:
        return "the route rejects it"
    return f"the route goes via {route.gateway or route.source} on {route.device}"


def _is_forwarded(trail: Trail, route: Route | None) -> bool:
    """Return whether another machine in the lab's network forwards connections to the address."""
    if route is None or not route.gateway or IPv4Address(route.gateway) not in trail.lab.network:
        return False  # nothing outside the lab's network is contacted
    results = trail.client.connect([trail.address], trail.left(trail.limits.trace_connect))
    return results[trail.address].outcome == CONNECTED


def _overriding_rule(trail: Trail, text: str) -> ProblemError | None:
    """Return a problem if a rule rejects the packets, or chooses a table that does not lead to the lab."""
    rule = routes.overriding_rule(trail.client.routing_rules(), trail.client.routes(), trail.address)
    if rule is None:
        return None
    return ProblemError(
        "route-in-the-way",
        f"{text}; the routing rule `{routes.rule_text(rule)}` takes precedence over the lab's route",
        fix="Remove the rule.",
        commands=(host_command(trail, "ip", "rule", "del", *routes.rule_text(rule).split()),),
    )


def _overriding_route(trail: Trail, route: Route | None, text: str) -> ProblemError | None:
    """Return a problem if another route takes precedence over the lab's own."""
    containing = [each for each in trail.client.routes() if _contains(each, trail.address)]
    closest = min(containing, key=_rank, default=None)
    if closest is None or _is_labs(trail, closest):
        return None
    if closest.network.prefixlen == 0 or (route is not None and not route.gateway and closest.kind != LOCAL):
        return None
    if closest.kind == LOCAL:
        has = (each for interface in trail.client.interfaces() for each in interface.addresses)
        own = next((each for each in has if each.ip == trail.address), IPv4Interface(trail.address))
        line = ("ip", "address", "del", str(own), "dev", closest.device)
        return ProblemError(
            "route-in-the-way",
            f"{text}; this machine has the address itself, on {closest.device}",
            fix="Remove the address from this machine.",
            commands=(host_command(trail, *line),),
        )
    return ProblemError(
        "route-in-the-way",
        f"{text}; the route `{' '.join(_words(closest))}` takes precedence over the lab's",
        fix="Remove the route.",
        commands=(host_command(trail, "ip", "route", "del", *_words(closest)),),
    )


def _interface(trail: Trail, text: str) -> ProblemError | None:
    """Return a problem with this machine's interface in the lab's network."""
    gateway, lab = trail.lab.gateway, trail.lab
    for each in trail.client.interfaces():
        if _has_gateway(trail, each) and not each.is_up:
            return ProblemError(
                "interface-down",
                f"{text}; its interface {each.name} in the lab's network is down",
                fix="Bring the interface up.",
                commands=(host_command(trail, "ip", "link", "set", each.name, "up"),),
            )
    bridge = trail.client.bridge(trail.context)
    if any(each.name == bridge and not _has_gateway(trail, each) for each in trail.client.interfaces()):
        prefix = f"{gateway}/{lab.network.prefixlen}"
        return ProblemError(
            "interface-down",
            f"{text}; its interface {bridge} in the lab's network has lost the address {gateway}",
            fix="Add the address to the interface.",
            commands=(host_command(trail, "ip", "address", "add", prefix, "dev", bridge),),
        )
    return None


def _has_gateway(trail: Trail, interface: Interface) -> bool:
    return trail.lab.gateway in {address.ip for address in interface.addresses}


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
