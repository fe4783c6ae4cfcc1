"""The client's side of a request, as this machine sees it: names, routes, ARP, and the request itself."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from labctl.context import Context
from labctl.host import arp, hosts_file, http_probe
from labctl.host.arp import Neighbour, Route
from labctl.host.http_probe import Address
from labctl.host.interfaces import Interface, interfaces
from labctl.host.machine import Machine
from labctl.host.process import run
from labctl.host.routes import TableRoute, routes
from labctl.isolation import namespaces
from labctl.model.errors import ProviderError
from labctl.trace.probes import exchange, filters, knock
from labctl.trace.probes.exchange import Exchange, Line
from labctl.trace.probes.filters import Ruleset
from labctl.trace.probes.knock import REFUSED, SILENT, UNREACHABLE, Knock

HOSTS = Path("/etc/hosts")
"""The file that the system's resolver reads, whatever file the lab is told to write."""
NSSWITCH = Path("/etc/nsswitch.conf")
RESOLVE_SECONDS = 2.0
"""How long a browser's user would wait for a name. A hosts file takes milliseconds, a name server less than a second."""
LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class HostsLine:
    """A line of the hosts file that names a host, and the lab in whose block it is, if any."""

    number: int
    address: Address
    text: str
    block: str | None


class Client:
    """What asks, from this machine."""

    @property
    def hosts(self) -> Path:
        """The file that the system's resolver reads."""
        return HOSTS

    @property
    def nsswitch(self) -> Path:
        """The file that says which sources the system's resolver asks, in which order."""
        return NSSWITCH

    @property
    def is_root(self) -> bool:
        """Whether this user may write the hosts file without sudo."""
        return os.geteuid() == 0

    @property
    def environment(self) -> Mapping[str, str]:
        """The user's environment."""
        return os.environ

    def resolve(self, hostname: str) -> tuple[list[Address], float]:
        """Return the addresses that the system's resolver has for a name, in its order, and the seconds it took.

        There are none where it has none, and where it does not answer in RESOLVE_SECONDS.
        """
        began = time.monotonic()
        answers: queue.Queue[list[Address]] = queue.Queue()
        # A lookup cannot be interrupted: its thread is left behind.
        threading.Thread(target=lambda: answers.put(_lookup(hostname)), daemon=True).start()
        try:
            addresses = answers.get(timeout=RESOLVE_SECONDS)
        except queue.Empty:
            addresses = []
        return addresses, time.monotonic() - began

    def hosts_lines(self, hostname: str) -> tuple[HostsLine, ...]:
        """Return the lines of the hosts file that name a host, in their order; without those that are no address's."""
        return tuple(
            HostsLine(entry.number, address, entry.text, entry.block)
            for entry in hosts_file.entries(self.hosts_content())
            if hostname.casefold() in entry.names and (address := _address(entry.address))
        )

    def hosts_line(self, hostname: str, address: Address) -> HostsLine | None:
        """Return the first line of the hosts file that gives the name this address; None where there is none.

        A name may have several lines, and the resolver sorts their addresses: the first line need not be the one that
        counts. To a program that wants no IPv6, glibc gives 127.0.0.1 for a line with ::1.
        """
        lines = self.hosts_lines(hostname)
        accepted = (address, *LOOPBACKS) if address == LOOPBACKS[0] else (address,)
        return next((line for each in accepted for line in lines if line.address == each), None)

    def hosts_content(self) -> bytes:
        """Return what is in the hosts file; nothing where the resolver cannot read it either."""
        try:
            return self.hosts.read_bytes()
        except OSError:
            return b""

    def is_mounted(self, file: Path) -> bool:
        """Whether something is mounted at the place of a file, which then cannot be replaced by another."""
        try:
            return bool(namespaces.mounts_below(file))
        except OSError:  # no Linux
            return False

    def knock(self, addresses: Sequence[Address], seconds: float, port: int = http_probe.HTTP) -> dict[Address, Knock]:
        """Return what happens to one TCP connection to each of the addresses, as a browser would make it.

        On a network of this machine's own, an address that nobody has is silent for three seconds, of which some may have
        passed before: whoever looks again sees the same.
        """
        outcomes = knock.knock(addresses, port, seconds)
        return {address: self._lasting(address, each) for address, each in outcomes.items()}

    def _lasting(self, address: Address, outcome: Knock) -> Knock:
        if outcome.outcome != UNREACHABLE:
            return outcome
        route = self.route(address) if isinstance(address, IPv4Address) else None
        is_told_by_a_router = route is not None and bool(route.gateway)
        return Knock(REFUSED if is_told_by_a_router else SILENT, outcome.reason)

    def route(self, address: IPv4Address) -> Route | None:
        """Return the kernel's route to an address; None where it has none."""
        return arp.route(address)

    def ask_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
        """Return who answers ARP for each of the addresses on the route's network."""
        return arp.ask(addresses, route)

    @property
    def may_ask_arp(self) -> bool:
        """Return whether this user may ask for itself, and not the kernel's memory alone."""
        return arp.may_ask()

    def neighbour(self, address: IPv4Address, route: Route) -> Neighbour | None:
        """Return where the kernel sends packets for an address without asking."""
        return arp.remembered(address, route.device)

    def owner_of(self, mac: str, context: Context) -> str:
        """Return which node of the provider's, or which interface of a bridge, has a MAC; nothing where none has."""
        network = context.provider.network()
        member = network.members.get(mac) if network else None
        ports = [each["ifname"] for each in _listed(["bridge", "-j", "fdb", "show"]) if each["mac"] == mac]
        return member or (f"behind {ports[0]}" if ports else "")

    def routes(self) -> Sequence[TableRoute]:
        """Return the kernel's routes, those of its own addresses among them."""
        return routes(Machine()) or ()

    def interfaces(self) -> Sequence[Interface]:
        """Return this machine's interfaces, each with its addresses."""
        return interfaces(Machine())

    def bridge(self, context: Context) -> str:
        """Return the interface that the provider made for the lab's network; nothing where it made none."""
        network = context.provider.network()
        return network.interface if network else ""

    def filters(self) -> tuple[Ruleset, str] | None:
        """Return this machine's packet filter, read and as nft prints it; None for a user who may not see it."""
        try:
            ruleset, listing = run(["nft", "-j", "list", "ruleset"]), run(["nft", "-a", "list", "ruleset"])
            return (filters.parse(ruleset.out), listing.out) if ruleset.code == 0 else None
        except (ProviderError, ValueError):  # nft is not installed, or prints what nobody knows
            return None

    def fetch(
        self,
        hostname: str,
        address: Address,
        path: str = "/",
        port: int = http_probe.HTTP,
        *,
        tls: bool = False,
        seconds: float = http_probe.ANSWER_SECONDS,
    ) -> Exchange:
        """GET a path of a host at an address, timed part by part."""
        return exchange.fetch(hostname, address, path, port, tls=tls, seconds=seconds)

    def line_to(self, hostname: str, address: Address) -> Line:
        """Return a connection on which requests for a host follow one another."""
        return Line(hostname, address)


def _listed(line: list[str]) -> list[dict[str, Any]]:
    return list(json.loads(run(line).out or "[]"))


def _lookup(hostname: str) -> list[Address]:
    """Return a name's addresses for programs that take every kind, among them those for programs that do as browsers.

    Those leave out the kind of address of which this machine has none itself. What they try before an address that both
    have comes before it here as well.
    """
    addresses = list(dict.fromkeys(_addresses(hostname, 0)))
    browsers = list(dict.fromkeys(_addresses(hostname, socket.AI_ADDRCONFIG))) if addresses else []
    for place, address in enumerate(browsers):
        if address not in addresses:
            later = (addresses.index(each) for each in browsers[place + 1 :] if each in addresses)
            addresses.insert(next(later, len(addresses)), address)
    return addresses


def _addresses(hostname: str, flags: int) -> Iterator[Address]:
    try:
        entries = socket.getaddrinfo(hostname, http_probe.HTTP, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return
    for entry in entries:
        if address := _address(str(entry[4][0])):
            yield address


def _address(word: str) -> Address | None:
    """Return the address as it is connected to: an IPv4 address that is written as IPv6 is one of IPv4."""
    try:
        address = ip_address(word)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
