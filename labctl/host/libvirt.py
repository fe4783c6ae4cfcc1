"""What libvirt has on this machine, as `virsh` describes it: networks, and storage pools."""

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
"""The machine's own daemon, which can make networks; a user's own (`qemu:///session`) cannot."""
LOCAL = ("qemu", "qemu+unix")
"""The schemes of a libvirt on this machine."""
NAMESPACE = "urn:labctl:lab"
"""Of the element in the metadata of networks and domains that says whose they are."""


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
    """The mode in which packets leave it; empty where none do."""
    addresses: tuple[IPv4Interface, ...]
    """The machine's own in it."""
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
    """The number of the user whose its folder is; empty where that is not known."""
    mode: str


def uri(environment: Mapping[str, str]) -> str:
    """Return which libvirt a user means: that of LIBVIRT_DEFAULT_URI, else the machine's own."""
    return environment.get(URI_VARIABLE) or SYSTEM


def is_own(uri: str) -> bool:
    """Return whether a URI names the machine's own libvirt, by whatever socket."""
    parts = urlsplit(uri)
    return parts.scheme in LOCAL and not parts.netloc and parts.path == "/system"


def virsh(environment: Mapping[str, str], *arguments: str) -> tuple[str, ...]:
    """Return the command line that asks libvirt."""
    return ("virsh", "-c", uri(environment), *arguments)


def ask(machine: Machine, *arguments: str) -> Finished | None:
    """Return what `virsh` said; None where there is none."""
    return machine.run(*virsh(machine.environment, *arguments))


def answers(machine: Machine) -> bool:
    """Return whether libvirt answers this user."""
    answer = ask(machine, "uri")
    return answer is not None and answer.code == 0


def networks(machine: Machine) -> tuple[Network, ...]:
    """Return every network, active or not; none where libvirt does not answer."""
    return tuple(network(element) for element in _described(machine, "net"))


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
    """Return whose a network or a domain is by its description; None if it is of no lab."""
    lab = element.find(f"metadata/{{{NAMESPACE}}}lab")
    return None if lab is None else Mark(lab.get("name", ""), lab.get("folder", ""))


def pools(machine: Machine) -> tuple[Pool, ...]:
    """Return every storage pool, active or not; none where libvirt does not answer."""
    active = _names(machine, "pool-list", "--name")
    return tuple(_pool(element, active) for element in _described(machine, "pool"))


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


def _described(machine: Machine, kind: str) -> Iterator[ET.Element]:
    for name in sorted(_names(machine, f"{kind}-list", "--all", "--name")):
        answer = ask(machine, f"{kind}-dumpxml", name)
        if answer is not None and answer.code == 0:  # else it was removed meanwhile
            yield ET.fromstring(answer.out)  # noqa: S314 - libvirt's own daemon wrote it


def _names(machine: Machine, *listing: str) -> frozenset[str]:
    answer = ask(machine, *listing)
    lines = answer.out.splitlines() if answer is not None and answer.code == 0 else ()
    return frozenset(line.strip() for line in lines if line.strip())
