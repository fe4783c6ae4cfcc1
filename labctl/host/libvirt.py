"""libvirt's networks and storage pools on this machine, as `virsh` describes them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from labctl.host.machine import Machine
from labctl.host.process import Finished

URI_VARIABLE = "LIBVIRT_DEFAULT_URI"
SYSTEM = "qemu:///system"
"""The system daemon, which can create networks; a user's session daemon (`qemu:///session`) cannot."""
LOCAL = ("qemu", "qemu+unix")
"""The URI schemes of a libvirt daemon on this machine."""
NAMESPACE = "urn:labctl:lab"
"""The XML namespace of the metadata element that names the lab of a network or domain."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The lab that a network or a domain belongs to: its name and its state folder."""

    lab: str
    folder: str

    def element(self) -> str:
        """Return the mark as an element of `<metadata>`."""
        return f'<labctl:lab xmlns:labctl="{NAMESPACE}" name={quoteattr(self.lab)} folder={quoteattr(self.folder)}/>'


@dataclass(frozen=True, slots=True)
class Network:
    """A network of libvirt, with its IPv4 addresses."""

    name: str
    bridge: str
    forward: str
    """The mode in which packets leave it; empty if none do."""
    addresses: tuple[IPv4Interface, ...]
    """This machine's addresses in it."""
    leases: tuple[tuple[IPv4Address, IPv4Address], ...]
    """The ranges that its DHCP server hands out, each with its first and its last address."""
    mark: Mark | None

    def __str__(self) -> str:
        return f"libvirt's network {self.name}" + (f" of the lab {self.mark.lab}" if self.mark else "")


@dataclass(frozen=True, slots=True)
class Pool:
    """A storage pool of libvirt. The sizes of an inactive one are 0."""

    name: str
    kind: str
    is_active: bool
    path: str
    available: int
    """Bytes."""
    owner: str
    """The uid of its folder's owner; empty if unknown."""
    mode: str


def uri(environment: Mapping[str, str]) -> str:
    """Return the URI of the user's libvirt: that of LIBVIRT_DEFAULT_URI, else the system daemon's."""
    return environment.get(URI_VARIABLE) or SYSTEM


def is_local_system(uri: str) -> bool:
    """Return whether a URI names this machine's system daemon, by any socket."""
    parts = urlsplit(uri)
    return parts.scheme in LOCAL and not parts.netloc and parts.path == "/system"


def virsh(environment: Mapping[str, str], *arguments: str) -> tuple[str, ...]:
    """Return the command line of `virsh` with these arguments."""
    return ("virsh", "-c", uri(environment), *arguments)


def run_virsh(machine: Machine, *arguments: str) -> Finished | None:
    """Run `virsh` and return its result; None if it is not installed."""
    return machine.run(*virsh(machine.environment, *arguments))


def responds(machine: Machine) -> bool:
    """Return whether libvirt answers this user."""
    answer = run_virsh(machine, "uri")
    return answer is not None and answer.code == 0


def networks(machine: Machine) -> tuple[Network, ...]:
    """Return every network, active or not; none if libvirt does not answer."""
    return tuple(network(element) for element in _descriptions(machine, "net"))


def active_networks(machine: Machine) -> frozenset[str]:
    """Return the names of the networks that are started."""
    return _names(machine, "net-list", "--name")


def network(element: ET.Element) -> Network:
    """Return the network that `virsh net-dumpxml` described."""
    ips = [ip for ip in element.findall("ip") if ip.get("family", "ipv4") == "ipv4" and "address" in ip.attrib]
    bridge, forward = element.find("bridge"), element.find("forward")
    ranges = [each.attrib for ip in ips for each in ip.findall("dhcp/range")]
    return Network(
        element.findtext("name", ""),
        "" if bridge is None else bridge.get("name", ""),
        "" if forward is None else forward.get("mode", "nat"),
        tuple(IPv4Interface(f"{ip.attrib['address']}/{ip.get('prefix') or ip.get('netmask') or 32}") for ip in ips),
        tuple((IPv4Address(each["start"]), IPv4Address(each["end"])) for each in ranges),
        mark(element),
    )


def mark(element: ET.Element) -> Mark | None:
    """Return the mark in the description of a network or domain; None if it belongs to no lab."""
    lab = element.find(f"metadata/{{{NAMESPACE}}}lab")
    return None if lab is None else Mark(lab.get("name", ""), lab.get("folder", ""))


def pools(machine: Machine) -> tuple[Pool, ...]:
    """Return every storage pool, active or not; none if libvirt does not answer."""
    active = _names(machine, "pool-list", "--name")
    return tuple(_pool(element, active) for element in _descriptions(machine, "pool"))


def _pool(element: ET.Element, active: frozenset[str]) -> Pool:
    """Return the pool that `virsh pool-dumpxml` described."""
    name = element.findtext("name", "")
    return Pool(
        name,
        element.get("type", ""),
        name in active,
        element.findtext("target/path", ""),
        int(element.findtext("available", "0")),
        element.findtext("target/permissions/owner", ""),
        element.findtext("target/permissions/mode", ""),
    )


def _descriptions(machine: Machine, kind: str) -> Iterator[ET.Element]:
    for name in sorted(_names(machine, f"{kind}-list", "--all", "--name")):
        answer = run_virsh(machine, f"{kind}-dumpxml", name)
        if answer is not None and answer.code == 0:  # else it was removed meanwhile
            yield ET.fromstring(answer.out)  # noqa: S314 - libvirt's own daemon wrote it


def _names(machine: Machine, *listing: str) -> frozenset[str]:
    answer = run_virsh(machine, *listing)
    lines = answer.out.splitlines() if answer is not None and answer.code == 0 else ()
    return frozenset(line.strip() for line in lines if line.strip())
