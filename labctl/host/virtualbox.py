"""VirtualBox on this machine, as `VBoxManage` lists it, and the versions that Vagrant supports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType

from labctl.host.machine import Machine
from labctl.host.parsing import Version, parse_version

PROGRAM = "VBoxManage"
VAGRANT_SINCE: Mapping[Version, Version] = MappingProxyType({(7, 0): (2, 3, 2), (7, 1): (2, 4, 2), (7, 2): (2, 4, 9)})
"""The first Vagrant that supports each VirtualBox: its drivers are an allow-list [upstream, CHANGELOG]."""
NEWEST = max(VAGRANT_SINCE)
NETWORK = "HostInterfaceNetworking-"
"""The prefix of VirtualBox's name for the network of a host-only interface; the interface's name follows."""


RUNNING = frozenset({"running", "livesnapshotting", "onlinesnapshotting", "deletingsnapshotlive", "teleporting"})
"""The states of a machine whose processor runs."""
OFF = frozenset({"poweroff", "saved", "aborted", "aborted-saved", "teleported", "inaccessible"})
"""The states of a machine that has no process."""
STUCK = "gurumeditation"
"""The state of a machine that VirtualBox has stopped after an error: it can only be powered off."""


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """A machine that is registered with VirtualBox."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Server:
    """A DHCP server of VirtualBox, which starts together with the first machine in its network."""

    network: str
    address: IPv4Address
    first: IPv4Address
    last: IPv4Address

    @property
    def removal(self) -> tuple[str, ...]:
        """Return the command that removes it."""
        return (PROGRAM, "dhcpserver", "remove", "--netname", self.network)


def installed(machine: Machine) -> tuple[Version, str] | None:
    """Return VirtualBox's version, empty if its kernel module is missing, and its output; None without VirtualBox."""
    answer = machine.run(PROGRAM, "--version")
    if answer is None:
        return None
    # Oracle's and Debian's packages word the warning differently, and print it on either stream.
    warnings = [line.strip() for line in (*answer.out.splitlines(), *answer.last_lines) if "vboxdrv" in line]
    if warnings:
        return (), warnings[0]
    return parse_version(r"^(\d+\.\d+\.\d+)", answer.out), answer.out or "\n".join(answer.last_lines)


def vagrant_version(machine: Machine) -> Version:
    """Return Vagrant's version; empty if it is unknown."""
    answer = machine.run("vagrant", "--version")
    return parse_version(r"Vagrant (\d+(?:\.\d+)+)", answer.out) if answer is not None else ()


def machines(listing: str) -> tuple[VirtualMachine, ...]:
    """Return the machines of `VBoxManage list vms`, or `runningvms`."""
    return tuple(VirtualMachine(name, uuid) for name, uuid in re.findall(r'^"(.*)" \{(.+)\}$', listing, re.MULTILINE))


def state(described: str) -> str:
    """Return the state of a machine that `VBoxManage showvminfo --machinereadable` describes."""
    match = re.search(r'^VMState="(.+)"$', described, re.MULTILINE)
    return match[1] if match else "inaccessible"


def addresses(machine: Machine) -> Mapping[IPv4Address, str]:
    """Return the host-only interfaces by this machine's address in each.

    The kernel has those addresses only while a machine that is connected to the interface runs.
    """
    return interfaces(_list(machine, "hostonlyifs"))


def interfaces(listing: str) -> Mapping[IPv4Address, str]:
    """Return the interfaces of `VBoxManage list hostonlyifs` by their addresses."""
    records = _records(listing, "Name")
    return {IPv4Address(record["IPAddress"]): record["Name"] for record in records if record.get("IPAddress")}


def servers(machine: Machine) -> tuple[Server, ...]:
    """Return the DHCP servers that are enabled."""
    enabled = []
    for record in _records(_list(machine, "dhcpservers"), "NetworkName"):
        if record.get("Enabled") == "Yes":
            # VirtualBox before 6.1 prints `IP` and `lowerIPAddress`.
            lower = {key.casefold(): value for key, value in record.items()}
            texts = (lower.get("dhcpd ip") or lower["ip"], lower["loweripaddress"], lower["upperipaddress"])
            enabled.append(Server(record["NetworkName"], *map(IPv4Address, texts)))
    return tuple(enabled)


def connected_machines(machine: Machine, interface: str) -> tuple[str, ...]:
    """Return the names of the machines, running or not, that are connected to a host-only interface."""
    adapter = re.compile(rf'^hostonlyadapter\d+="{re.escape(interface)}"$', re.MULTILINE)
    registered = machines(_list(machine, "vms"))
    described = ((each.name, machine.run(PROGRAM, "showvminfo", each.uuid, "--machinereadable")) for each in registered)
    return tuple(name for name, answer in described if answer is not None and adapter.search(answer.out))


def _list(machine: Machine, what: str) -> str:
    answer = machine.run(PROGRAM, "list", what)
    return answer.out if answer is not None and answer.code == 0 else ""


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
