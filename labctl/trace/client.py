"""The client's side of a request, as this machine sees it: names, routes, ARP, and the request itself."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from labctl import hosts, neighbours, web
from labctl.neighbours import Route
from labctl.web import Address, Exchange

HOSTS = Path("/etc/hosts")
"""The file that the system's resolver reads, whatever file the lab is told to write."""


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
    def is_root(self) -> bool:
        """Whether this user may write the hosts file without sudo."""
        return os.geteuid() == 0

    def resolve(self, hostname: str) -> tuple[list[Address], float]:
        """Return the addresses that the system's resolver has for a name, in its order, and the seconds it took."""
        began = time.monotonic()
        try:
            found = socket.getaddrinfo(hostname, web.HTTP, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            found = []
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        return list(dict.fromkeys(addresses)), time.monotonic() - began

    def hosts_line(self, hostname: str, address: Address) -> HostsLine | None:
        """Return the first line of the hosts file that gives the name this address; None where there is none.

        A name may have several lines, and the resolver sorts their addresses: the first line need not be the one that counts.
        """
        for entry in hosts.entries(self.hosts_content()):
            if hostname.casefold() in entry.names and _address(entry.address) == address:
                return HostsLine(entry.number, address, entry.text, entry.block)
        return None

    def hosts_content(self) -> bytes:
        """Return what is in the hosts file; nothing where the resolver cannot read it either."""
        try:
            return self.hosts.read_bytes()
        except OSError:
            return b""

    def route(self, address: IPv4Address) -> Route | None:
        """Return the kernel's route to an address; None where it has none."""
        return neighbours.route(address)

    def ask_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
        """Return who answers ARP for each of the addresses on the route's network."""
        return neighbours.ask(addresses, route)

    def fetch(
        self,
        hostname: str,
        address: Address,
        path: str = "/",
        port: int = web.HTTP,
        *,
        tls: bool = False,
        seconds: float = web.ANSWER_SECONDS,
    ) -> Exchange:
        """GET a path of a host at an address, timed part by part."""
        return web.fetch(hostname, address, path, port, tls=tls, seconds=seconds)


def _address(word: str) -> Address | None:
    try:
        return ip_address(word)
    except ValueError:
        return None
