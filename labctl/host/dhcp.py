"""The addresses that VirtualBox and libvirt have on this machine, and the DHCP servers that they run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from labctl.host.machine import Machine
from labctl.model.lab import AddressPool
from labctl.model.pools import single

LIBVIRT = ("virsh", "-c", "qemu:///system")


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


def libvirt_bridges(machine: Machine) -> dict[str, str]:
    """Return the names of libvirt's networks, by the names of their bridges."""
    bridges = {name: network.find("bridge") for name, network in _networks_of_libvirt(machine)}
    return {bridge.get("name", ""): name for name, bridge in bridges.items() if bridge is not None}


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


def _networks_of_libvirt(machine: Machine) -> Iterator[tuple[str, ET.Element]]:
    listed = machine.run(*LIBVIRT, "net-list", "--all", "--name")
    for name in listed.out.split() if listed is not None and listed.code == 0 else ():
        described = machine.run(*LIBVIRT, "net-dumpxml", name)
        if described is not None and described.code == 0:  # else it was removed meanwhile
            yield name, ET.fromstring(described.out)  # noqa: S314 - libvirt's own daemon wrote it


def _of_libvirt(machine: Machine) -> Iterator[DhcpServer]:
    for name, network in _networks_of_libvirt(machine):
        for ip in (ip for ip in network.findall("ip") if ip.get("family") != "ipv6"):
            for leased in ip.findall("dhcp/range"):
                yield DhcpServer(
                    f"libvirt's DHCP server of network {name}",
                    IPv4Address(ip.attrib["address"]),
                    IPv4Address(leased.attrib["start"]),
                    IPv4Address(leased.attrib["end"]),
                    f"`{' '.join(LIBVIRT)} net-edit {name}`, without its <dhcp>",
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
