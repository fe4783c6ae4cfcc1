"""The client's side of a request, as this machine sees it: names, routes, ARP, and the request itself."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import socket
import struct
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from labctl.process import run
from labctl.web import ANSWER_SECONDS, POD_HEADER

HOSTS = Path("/etc/hosts")
"""The file that the system's resolver reads, whatever file the lab is told to write."""
ARP_SECONDS = 0.3
"""Neighbours on one machine answer in less than a millisecond."""
ETHERNET_ARP = 0x0806
BROADCAST = b"\xff" * 6
ARP_FORMAT = "!HHBBH6s4s6s4s"
ARP_FRAME = 14 + struct.calcsize(ARP_FORMAT)
IPV4, ETHERNET, REQUEST, REPLY = 0x0800, 1, 1, 2


@dataclass(frozen=True, slots=True)
class HostsLine:
    """The line of the hosts file that names a host, and the lab in whose block it is, if any."""

    number: int
    address: IPv4Address
    text: str
    block: str | None


@dataclass(frozen=True, slots=True)
class Route:
    """How packets for an address leave this machine."""

    device: str
    source: IPv4Address
    gateway: str


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
        said = run(["ip", "-j", "-4", "route", "get", str(address)])
        if said.code != 0:
            return None
        (found,) = json.loads(said.out)
        return Route(found["dev"], IPv4Address(found["prefsrc"]), found.get("gateway", ""))

    def ask_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
        """Who answers ARP for each of the addresses on the route's network: every MAC that did, within 0.3 s.

        With the right to send frames, this asks anew and hears all who answer; without, it makes the kernel ask and
        reads what that remembers, one MAC an address.
        """
        try:
            return _asked(frozenset(addresses), route)
        except PermissionError:
            return _remembered(frozenset(addresses), route)

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


def _asked(addresses: frozenset[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
    """Asks with frames of its own, which the kernel allows root alone."""
    heard: dict[IPv4Address, set[str]] = {address: set() for address in addresses}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ARP)) as wire:
        wire.bind((route.device, ETHERNET_ARP))
        own = wire.getsockname()[4]
        for address in addresses:
            question = struct.pack(
                ARP_FORMAT, ETHERNET, IPV4, 6, 4, REQUEST, own, route.source.packed, bytes(6), address.packed
            )
            wire.send(BROADCAST + own + ETHERNET_ARP.to_bytes(2, "big") + question)
        end = time.monotonic() + ARP_SECONDS
        while (left := end - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                frame = wire.recv(2048)
            except TimeoutError:
                break
            if len(frame) < ARP_FRAME:
                continue
            _, _, _, _, operation, mac, sender, _, _ = struct.unpack_from(ARP_FORMAT, frame, 14)
            if operation == REPLY and IPv4Address(sender) in heard:
                heard[IPv4Address(sender)].add(mac.hex(":"))
    return {address: frozenset(macs) for address, macs in heard.items()}


def _remembered(addresses: frozenset[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for address in addresses:
            outlet.sendto(b"", socket.MSG_DONTROUTE, (str(address), 9))
    end = time.monotonic() + ARP_SECONDS
    while True:
        said = json.loads(run(["ip", "-j", "-4", "neigh", "show", "dev", route.device]).out or "[]")
        known = {IPv4Address(entry["dst"]): entry["lladdr"] for entry in said if "lladdr" in entry}
        if addresses <= known.keys() or time.monotonic() > end:
            return {address: frozenset({known[address]} if address in known else ()) for address in addresses}
