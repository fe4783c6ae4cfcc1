"""The interfaces of this machine, and the networks they are on."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from itertools import islice

from labctl.host.machine import Machine
from labctl.model.lab import AddressPool
from labctl.model.pools import single

ASKED_AT_MOST = 256
"""How many addresses of a pool are asked for by ARP: the kernel remembers 1024 at most."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this machine with one of its addresses."""

    name: str
    address: IPv4Interface
    is_up: bool


def interfaces(machine: Machine) -> tuple[Interface, ...]:
    """Return the interfaces, once for each IPv4 address; none where `ip` is missing."""
    answer = machine.run("ip", "-j", "-4", "address", "show")
    if answer is None or answer.code != 0:
        return ()
    return tuple(
        Interface(link["ifname"], IPv4Interface(f"{found['local']}/{found['prefixlen']}"), "UP" in link["flags"])
        for link in json.loads(answer.out)
        for found in link.get("addr_info", ())
        if found.get("family") == "inet"
    )


def own_addresses(machine: Machine) -> dict[AddressPool, str]:
    """Return the addresses of this machine, and on which interface each is."""
    return {single(found.address.ip): f"this machine's own address on {found.name}" for found in interfaces(machine)}


def connected(pool: AddressPool, machine: Machine) -> Collection[IPv4Address]:
    """Return the pool's first addresses that are on a network of an interface that is up, without the machine's own."""
    on = [found.address for found in interfaces(machine) if found.is_up]
    own = {address.ip for address in on}
    near = (address for address in pool if address not in own and any(address in each.network for each in on))
    return tuple(islice(near, ASKED_AT_MOST))
