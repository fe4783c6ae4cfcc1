"""The interfaces of this machine, and the addresses that answer on their networks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from itertools import islice

from labctl.host.arp import Route
from labctl.host.machine import Machine
from labctl.host.parsing import parse_json
from labctl.model.lab import AddressPool
from labctl.model.pools import single

SHOW = ("ip", "-j", "address", "show")
MAX_PROBED = 256
"""The most addresses of a pool to probe by ARP: the kernel's neighbour table holds at most 1024."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this machine."""

    name: str
    addresses: tuple[IPv4Interface, ...] = ()
    is_up: bool = True
    has_arp: bool = True
    mtu: int = 0


def interfaces(machine: Machine) -> tuple[Interface, ...]:
    """Return the interfaces with their IPv4 addresses; none if `ip` is missing."""
    answer = machine.run(*SHOW)
    return parse(answer.out) if answer is not None and answer.code == 0 else ()


def parse(text: str) -> tuple[Interface, ...]:
    """Return the interfaces that `ip -j address show` printed, in any network namespace."""
    return tuple(
        Interface(
            link["ifname"],
            tuple(
                IPv4Interface(f"{each['local']}/{each['prefixlen']}")
                for each in link.get("addr_info", ())
                if each.get("family") == "inet"
            ),
            is_up="UP" in link.get("flags", ()),
            has_arp="NOARP" not in link.get("flags", ()),
            mtu=link.get("mtu", 0),
        )
        for link in parse_json(text, list)
    )


def own_addresses(machine: Machine) -> dict[AddressPool, str]:
    """Return the addresses of this machine, each with a text that names its interface."""
    return {
        single(address.ip): f"this machine's own address on {interface.name}"
        for interface in interfaces(machine)
        for address in interface.addresses
    }


def addresses_to_probe(pool: AddressPool, machine: Machine) -> Collection[IPv4Address]:
    """Return the pool's first addresses in the networks of interfaces that are up, without the machine's own."""
    on = [address for interface in interfaces(machine) if interface.is_up for address in interface.addresses]
    own = {address.ip for address in on}
    near = (address for address in pool if address not in own and any(_is_host(address, each) for each in on))
    return tuple(islice(near, MAX_PROBED))


def addresses_in_use(addresses: Collection[IPv4Address], machine: Machine) -> frozenset[IPv4Address]:
    """Return the addresses for which a device on a network of this machine answers ARP."""
    in_use: set[IPv4Address] = set()
    for interface in interfaces(machine):
        for own in interface.addresses if interface.is_up and interface.has_arp else ():
            if near := [address for address in addresses if _is_host(address, own)]:
                in_use |= machine.answering(near, Route(interface.name, own.ip, ""))
    return frozenset(in_use)


def _is_host(address: IPv4Address, own: IPv4Interface) -> bool:
    return address in own.network and address != own.network.broadcast_address
