"""The client's side of a request, as this machine sees it: names, routes, ARP, and the request itself."""

from __future__ import annotations

import http.client
import re
import secrets
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from labctl import neighbours
from labctl.neighbours import Route
from labctl.web import ANSWER_SECONDS, POD_HEADER

HOSTS = Path("/etc/hosts")
"""The file that the system's resolver reads, whatever file the lab is told to write."""


@dataclass(frozen=True, slots=True)
class HostsLine:
    """The line of the hosts file that names a host, and the lab in whose block it is, if any."""

    number: int
    address: IPv4Address
    text: str
    block: str | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came back. Seconds are since the part before; None for a part that was not reached."""

    status: int | None
    pod: str | None
    mark: str
    """What the request bore in its User-Agent, and no other one did: a server's log shows it."""
    failure: str
    client: str
    """The address and port that the answer came to."""
    seconds: Mapping[str, float | None]


class Client:
    """What asks, from this machine."""

    def resolve(self, hostname: str) -> tuple[list[IPv4Address], float]:
        """The addresses that the system's resolver has for a name, and the seconds it took."""
        began = time.monotonic()
        try:
            found = socket.getaddrinfo(hostname, 80, socket.AF_INET, socket.SOCK_STREAM)
        except socket.gaierror:
            found = []
        return [IPv4Address(entry[4][0]) for entry in found], time.monotonic() - began

    def hosts_line(self, hostname: str, address: IPv4Address) -> HostsLine | None:
        """The first line of the hosts file that gives the name this address; None where the resolver has it from elsewhere.

        A name may have several lines, and the resolver sorts their addresses: the first line need not be the one that counts.
        """
        block = None
        lines = HOSTS.read_bytes().split(b"\n") if HOSTS.exists() else []
        for number, raw in enumerate(lines, 1):
            text = raw.decode(errors="replace").strip()
            if marker := re.fullmatch(r"# (BEGIN|END) labctl (\S+)", text):
                block = marker[2] if marker[1] == "BEGIN" else None
            words = text.partition("#")[0].lower().split()
            if hostname.lower() in words[1:] and words[0] == str(address):
                return HostsLine(number, address, text, block)
        return None

    def route(self, address: IPv4Address) -> Route | None:
        """The kernel's route to an address; None where it has none."""
        return neighbours.route(address)

    def ask_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
        """Who answers ARP for each of the addresses on the route's network."""
        return neighbours.ask(addresses, route)

    def fetch(self, hostname: str, address: IPv4Address) -> Exchange:
        """GET / of a host at an address, timed part by part."""
        mark = f"labctl-trace-{secrets.token_hex(4)}"
        seconds: dict[str, float | None] = {"connect": None, "first_byte": None}
        began, client = time.monotonic(), ""
        connection = http.client.HTTPConnection(hostname, timeout=ANSWER_SECONDS)
        try:
            connection.sock = socket.create_connection((str(address), 80), timeout=ANSWER_SECONDS)
            client = "{}:{}".format(*connection.sock.getsockname())
            connected = time.monotonic()
            seconds["connect"] = connected - began
            connection.request("GET", "/", headers={"User-Agent": mark, "Connection": "close"})
            answer = connection.getresponse()
            seconds["first_byte"] = time.monotonic() - connected
            return Exchange(answer.status, answer.getheader(POD_HEADER), mark, "", client, seconds)
        except (OSError, http.client.HTTPException) as error:
            return Exchange(None, None, mark, str(error) or type(error).__name__, client, seconds)
        finally:
            connection.close()
