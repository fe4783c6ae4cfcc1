"""The networks that this machine has already."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.doctor.readings import ipv4_network
from labctl.doctor.surroundings import Surroundings

ROUTES = Path("/proc/net/route")
"""The kernel's IPv4 routes: a line each, destination and mask as hexadecimal numbers in the machine's byte order."""
ELSEWHERE = "Choose another `network` in labctl.yaml, or run as root with `--isolated`."


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this machine with one of its addresses."""

    name: str
    address: IPv4Interface
    is_up: bool


def look_at_routes(context: Context, seen: Surroundings) -> Finding:
    """No route or interface of this machine has the lab's network for something else."""
    network = context.lab.network
    text = seen.read(ROUTES)
    if text is None:
        return not_relevant(f"this system does not tell its routes in {ROUTES}; compare `netstat -rn` with {network}")
    for routed, name in _routes(text):
        if routed.prefixlen and routed.overlaps(network):
            return broken(f"network {network}: this machine already routes {routed} by {name}", ELSEWHERE)
    for interface in interfaces(seen):
        if interface.address.network.overlaps(network):
            told = f"network {network}: {interface.name}, which is down, has {interface.address}"
            return warning(
                told,
                f"{ELSEWHERE} Or take its address away: `ip address del {interface.address} dev {interface.name}`.",
            )
    return ok(f"no route or interface has a part of {network}")


def look_at_docker_networks(context: Context, seen: Surroundings) -> Finding:
    """No network of the Docker Engine has a part of the lab's network."""
    listed = seen.run("docker", "network", "ls", "--quiet")
    if listed is None or listed.code != 0:
        return not_relevant("no Docker Engine answers; see `engine`")
    ids = listed.out.split()
    described = seen.run("docker", "network", "inspect", *ids) if ids else None
    if described is None or described.code != 0:
        return ok("the Engine has no networks to tell of")
    network = context.lab.network
    overlapping = [
        f"{found['Name']} ({config['Subnet']})"
        for found in json.loads(described.out)
        for config in (found.get("IPAM") or {}).get("Config") or ()
        if _overlaps(config.get("Subnet", ""), network)
    ]
    if overlapping:
        fix = f"Choose another `network`, or remove it: `docker network rm {overlapping[0].split()[0]}`."
        return broken(f"network {network}: Docker has {', '.join(overlapping)}", fix)
    return ok(f"{len(ids)} networks, none in {network}")


def interfaces(seen: Surroundings) -> tuple[Interface, ...]:
    """The interfaces of this machine, once for each IPv4 address; none where there is no `ip` to tell of them."""
    said = seen.run("ip", "-j", "-4", "address", "show")
    if said is None or said.code != 0:
        return ()
    return tuple(
        Interface(link["ifname"], IPv4Interface(f"{found['local']}/{found['prefixlen']}"), "UP" in link["flags"])
        for link in json.loads(said.out)
        for found in link.get("addr_info", ())
        if found.get("family") == "inet"
    )


def _routes(text: str) -> list[tuple[IPv4Network, str]]:
    routes = []
    for line in text.splitlines()[1:]:
        interface, destination, _gateway, _flags, _count, _use, _metric, mask, *_ = line.split()
        routes.append((IPv4Network((_address(destination), str(_address(mask)))), interface))
    return routes


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder))


def _overlaps(subnet: str, network: IPv4Network) -> bool:
    found = ipv4_network(subnet)
    return found is not None and found.overlaps(network)
