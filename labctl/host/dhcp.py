"""VirtualBox's and libvirt's DHCP servers on this machine, and its addresses in their networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from labctl.host import libvirt, virtualbox
from labctl.host.machine import Machine
from labctl.model.lab import AddressPool
from labctl.model.pools import single


@dataclass(frozen=True, slots=True)
class DhcpServer:
    """A DHCP server with its own address, and the range from `first` to `last`. `fix` says how to remove it."""

    name: str
    address: IPv4Address
    first: IPv4Address
    last: IPv4Address
    fix: str


def dhcp_servers(machine: Machine) -> tuple[DhcpServer, ...]:
    """Return the servers that VirtualBox and libvirt run, or will start together with their first machine."""
    return (*_virtualbox_servers(machine), *_libvirt_servers(machine))


def host_only_addresses(machine: Machine) -> dict[AddressPool, str]:
    """Return the machine's addresses in VirtualBox's host-only networks."""
    return {single(address): f"VirtualBox's {name}" for address, name in virtualbox.addresses(machine).items()}


def dhcp_addresses(servers: Sequence[DhcpServer]) -> dict[AddressPool, str]:
    """Return the servers' own addresses and their ranges, each with the name of its server."""
    ranges = {AddressPool(server.first, server.last): server.name for server in servers}
    return {**{single(server.address): server.name for server in servers}, **ranges}


def _virtualbox_servers(machine: Machine) -> Iterator[DhcpServer]:
    for server in virtualbox.servers(machine):
        name = f"VirtualBox's DHCP server of {server.network}"
        yield DhcpServer(name, server.address, server.first, server.last, f"`{' '.join(server.removal)}`")


def _libvirt_servers(machine: Machine) -> Iterator[DhcpServer]:
    edit = " ".join(libvirt.virsh(machine.environment, "net-edit"))
    for network in libvirt.networks(machine):
        for first, last in network.leases:
            own = next((each for each in network.addresses if first in each.network), network.addresses[0])
            yield DhcpServer(
                f"libvirt's DHCP server of network {network.name}",
                own.ip,
                first,
                last,
                f"`{edit} {network.name}`, without its <dhcp>",
            )
