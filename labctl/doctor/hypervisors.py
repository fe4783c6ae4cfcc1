"""VirtualBox and libvirt: whether they can make machines, and the DHCP servers they run."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, ok
from labctl.host.machine import Machine
from labctl.host.parsing import Version, dotted, ipv4_network, last, version

NEWEST_VIRTUALBOX: Version = (7, 2)
"""Vagrant's VirtualBox drivers are an allow-list that ends here [upstream]."""
HOST_ONLY = "192.168.56.0/21"
"""Where VirtualBox lets host-only networks be unless HOST_ONLY_FILE names others [upstream]."""
HOST_ONLY_FILE = Path("/etc/vbox/networks.conf")
LIBVIRT = ("virsh", "-c", "qemu:///system")


@dataclass(frozen=True, slots=True)
class DhcpServer:
    """A server that hands out addresses from `first` to `last`, beside its own; `cure` takes it away."""

    name: str
    address: IPv4Address
    first: IPv4Address
    last: IPv4Address
    cure: str


def look_at_virtualbox(_context: Context, seen: Machine) -> Finding:
    """VirtualBox is complete, and of a version that Vagrant knows."""
    said = seen.run("VBoxManage", "--version")
    if said is None:
        return broken("there is no VBoxManage", f"Install VirtualBox, {dotted(NEWEST_VIRTUALBOX)} at the newest.")
    found = version(r"^(\d+\.\d+\.\d+)", said.out)
    if not found or "/dev/vboxdrv" in said.out:
        return broken(
            f"VirtualBox cannot start machines: {last(said.out.splitlines()[:1]) or last(said.last_lines)}",
            "Build its kernel module: `sudo /sbin/vboxconfig`, and see that Secure Boot lets it load.",
        )
    if found[:2] > NEWEST_VIRTUALBOX:
        return broken(
            f"VirtualBox {dotted(found)}; Vagrant knows versions up to {dotted(NEWEST_VIRTUALBOX)}",
            f"Install VirtualBox {dotted(NEWEST_VIRTUALBOX)}.",
        )
    return ok(f"VirtualBox {dotted(found)}")


def look_at_host_only_range(context: Context, seen: Machine) -> Finding:
    """VirtualBox lets a host-only network be where the lab's is."""
    network = context.lab.network
    # An entry is `* 10.0.0.0/8 192.168.0.0/16`; what begins with # says nothing.
    written = re.sub(r"#.*|\*", "", seen.read(HOST_ONLY_FILE) or HOST_ONLY).split()
    allowed = [found for each in written if (found := ipv4_network(each)) is not None]
    told = " ".join(map(str, allowed))
    if any(map(network.subnet_of, allowed)):
        return ok(f"{network} is in {told}")
    return broken(
        f"VirtualBox lets host-only networks be in {told} only; the lab's is {network}",
        f"Allow it: `echo '* {network}' | sudo tee -a {HOST_ONLY_FILE}`.",
    )


def look_at_libvirt(_context: Context, seen: Machine) -> Finding:
    """The libvirt daemon answers this user, and Vagrant has the plugin for it."""
    said = seen.run(*LIBVIRT, "version", "--daemon")
    if said is None:
        return broken("there is no virsh", "`apt-get install libvirt-daemon-system libvirt-clients vagrant-libvirt`")
    if said.code != 0:
        return broken(
            f"libvirt does not answer: {last(said.last_lines)}",
            "`sudo systemctl start libvirtd`, and be in its group: `sudo usermod -aG libvirt $USER`, then log in again.",
        )
    plugins = seen.run("vagrant", "plugin", "list")
    if plugins is not None and "vagrant-libvirt" not in plugins.out:
        return broken("Vagrant has no plugin vagrant-libvirt", "`apt-get install vagrant-libvirt`")
    running = version(r"Running against daemon: (\d+(?:\.\d+)+)", said.out)
    return ok(f"libvirt {dotted(running)}" if running else "libvirt answers")


def dhcp_servers(seen: Machine) -> tuple[DhcpServer, ...]:
    """The servers that VirtualBox and libvirt run, or will as soon as a machine of theirs does."""
    return (*_of_virtualbox(seen), *_of_libvirt(seen))


def host_only_addresses(seen: Machine) -> dict[IPv4Address, str]:
    """The addresses of this machine in VirtualBox's host-only networks, up or not, by the interface's name."""
    said = seen.run("VBoxManage", "list", "hostonlyifs")
    records = _records(said.out, "Name") if said is not None and said.code == 0 else ()
    return {IPv4Address(record["IPAddress"]): record["Name"] for record in records if record.get("IPAddress")}


def _of_virtualbox(seen: Machine) -> Iterator[DhcpServer]:
    said = seen.run("VBoxManage", "list", "dhcpservers")
    for record in _records(said.out, "NetworkName") if said is not None and said.code == 0 else ():
        if record.get("Enabled") == "Yes":
            # VirtualBox before 6.1 says `IP` and `lowerIPAddress`.
            lower = {key.casefold(): value for key, value in record.items()}
            yield DhcpServer(
                f"VirtualBox's DHCP server of {record['NetworkName']}",
                IPv4Address(lower.get("dhcpd ip") or lower["ip"]),
                IPv4Address(lower["loweripaddress"]),
                IPv4Address(lower["upperipaddress"]),
                f"`VBoxManage dhcpserver remove --netname {record['NetworkName']}`",
            )


def libvirt_bridges(seen: Machine) -> dict[str, str]:
    """Return the names of libvirt's networks, by the names of their bridges."""
    found = {name: network.find("bridge") for name, network in _networks_of_libvirt(seen)}
    return {bridge.get("name", ""): name for name, bridge in found.items() if bridge is not None}


def _networks_of_libvirt(seen: Machine) -> Iterator[tuple[str, ET.Element]]:
    listed = seen.run(*LIBVIRT, "net-list", "--all", "--name")
    for name in listed.out.split() if listed is not None and listed.code == 0 else ():
        described = seen.run(*LIBVIRT, "net-dumpxml", name)
        if described is not None and described.code == 0:  # else it went away between the two questions
            yield name, ET.fromstring(described.out)  # noqa: S314 - libvirt's own daemon wrote it


def _of_libvirt(seen: Machine) -> Iterator[DhcpServer]:
    for name, network in _networks_of_libvirt(seen):
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
    """What VBoxManage lists: records of `Key: value` lines, each of which begins with `first_key`."""
    records: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if key == first_key:
            records.append({})
        if records and colon and not key.startswith(" "):
            records[-1][key] = value.strip()
    return records
