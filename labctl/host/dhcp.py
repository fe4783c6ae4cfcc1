"""The addresses that VirtualBox and libvirt have on this machine, and the DHCP servers that they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from labctl.host import libvirt
from labctl.host.machine import Machine
from labctl.model.lab import AddressPool
from labctl.model.pools import single


@dataclass(frozen=True, slots=True)
class DhcpServer:
    """A server that hands out addresses from `first` to `last`, beside its own; `cure` takes it away."""

    name: str
    address: IPv4Address
    first: IPv4Address
    last: IPv4Address
    cure: str


def dhcp_servers(machine: Machine) -> tuple[DhcpServer, ...]:
    """Return the servers that VirtualBox and libvirt run, or start together with their first machine."""
    return (*_of_virtualbox(machine), *_of_libvirt(machine))


def host_only(machine: Machine) -> dict[AddressPool, str]:
    """Return the machine's addresses in VirtualBox's host-only networks.

    The kernel knows them only while one of VirtualBox's machines runs.
    """
    answer = machine.run("VBoxManage", "list", "hostonlyifs")
    records = _records(answer.out, "Name") if answer is not None and answer.code == 0 else ()
    named = {record["IPAddress"]: record["Name"] for record in records if record.get("IPAddress")}
    return {single(IPv4Address(address)): f"VirtualBox's {name}" for address, name in named.items()}


def handed_out(servers: Sequence[DhcpServer]) -> dict[AddressPool, str]:
    """Return the addresses of DHCP servers and what they hand out, each range once."""
    ranges = {AddressPool(server.first, server.last): server.name for server in servers}
    return {**{single(server.address): server.name for server in servers}, **ranges}


def _of_virtualbox(machine: Machine) -> Iterator[DhcpServer]:
    answer = machine.run("VBoxManage", "list", "dhcpservers")
    for record in _records(answer.out, "NetworkName") if answer is not None and answer.code == 0 else ():
        if record.get("Enabled") == "Yes":
            # VirtualBox before 6.1 prints `IP` and `lowerIPAddress`.
            lower = {key.casefold(): value for key, value in record.items()}
            yield DhcpServer(
                f"VirtualBox's DHCP server of {record['NetworkName']}",
                IPv4Address(lower.get("dhcpd ip") or lower["ip"]),
                IPv4Address(lower["loweripaddress"]),
                IPv4Address(lower["upperipaddress"]),
                f"`VBoxManage dhcpserver remove --netname {record['NetworkName']}`",
            )


def _of_libvirt(machine: Machine) -> Iterator[DhcpServer]:
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


def _records(text: str, first_key: str) -> list[dict[str, str]]:
    """Return what VBoxManage lists: records of `Key: value` lines, each starting with `first_key`."""
    records: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if key == first_key:
            records.append({})
        if records and colon and not key.startswith(" "):
            records[-1][key] = value.strip()
    return records
