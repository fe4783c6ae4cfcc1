"""Routes to addresses on this machine's networks, and the MACs that answer ARP for them."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from labctl.host.process import run
from labctl.model.limits import NORMAL

GRACE_SECONDS = 0.1
"""How long to wait for second answers once every address has one."""
ARP_TRIES = 3
"""How many requests to send for an address that does not answer."""
POLL_SECONDS = 0.05
KERNEL_SECONDS = 2.3
"""The kernel repeats its request after one and after two seconds."""
PERMANENT = frozenset({"PERMANENT", "NOARP"})
"""The states of static entries, for which the kernel sends no requests."""
UNRESOLVED = frozenset({"FAILED", "INCOMPLETE"})
ETHERNET_ARP = 0x0806
BROADCAST = b"\xff" * 6
ARP_FORMAT = "!HHBBH6s4s6s4s"
ARP_FRAME = 14 + struct.calcsize(ARP_FORMAT)
IPV4, ETHERNET, REQUEST, REPLY = 0x0800, 1, 1, 2


@dataclass(frozen=True, slots=True)
class Route:
    """How packets for an address leave this machine."""

    device: str
    source: IPv4Address
    """This machine's address for the route; 0.0.0.0 if it has none."""
    gateway: str
    """Empty if the address is directly connected."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the kernel's neighbour table: the MAC of an address, and the entry's state."""

    mac: str
    state: str

    @property
    def is_permanent(self) -> bool:
        """Return whether the entry is static, so that no ARP answer changes it."""
        return self.state in PERMANENT


def cached_neighbour(address: IPv4Address, device: str) -> Neighbour | None:
    """Return the kernel's entry for an address; None if it would have to send a request, which changes the entry."""
    return _entries(device).get(address)


def may_send_requests() -> bool:
    """Return whether this user may send raw frames."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ARP)):
            return True
    except PermissionError:
        return False


def route(address: IPv4Address) -> Route | None:
    """Return the kernel's route to an address; None if it has none."""
    result = run(["ip", "-j", "-4", "route", "get", str(address)])
    if result.code != 0:
        return None
    (entry,) = json.loads(result.out)
    return Route(entry["dev"], IPv4Address(entry.get("prefsrc", 0)), gateway(entry))


def gateway(hop: Mapping[str, Any]) -> str:
    """Return the gateway of a route that `ip` lists, which may be an IPv6 address; empty for a direct route."""
    address: str = hop.get("gateway") or hop.get("via", {}).get("host", "")
    return address


def query(
    addresses: Collection[IPv4Address], route_used: Route, seconds: float = NORMAL.arp
) -> dict[IPv4Address, frozenset[str]]:
    """Return the MACs that answer ARP for each of the addresses on the route's network.

    With the right to send raw frames, send new requests and return all answers: send up to three requests for each
    address, wait `seconds` after each, and 0.1 s for second answers once every address has one. Without that right,
    make the kernel send requests, and return the entries of its neighbour table: one MAC for each address.
    """
    try:
        return _query_by_frames(frozenset(addresses), route_used, seconds)
    except PermissionError:
        return _query_by_kernel(frozenset(addresses), route_used)


def _query_by_frames(
    addresses: frozenset[IPv4Address], route: Route, seconds: float
) -> dict[IPv4Address, frozenset[str]]:
    """Send requests as raw frames, which the kernel allows only root."""
    answers: dict[IPv4Address, set[str]] = {address: set() for address in addresses}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ARP)) as wire:
        wire.bind((route.device, ETHERNET_ARP))
        own = wire.getsockname()[4]
        for _ in range(ARP_TRIES):
            silent = [address for address, macs in answers.items() if not macs]
            if not silent:
                break
            for address in silent:
                request = struct.pack(
                    ARP_FORMAT, ETHERNET, IPV4, 6, 4, REQUEST, own, route.source.packed, bytes(6), address.packed
                )
                wire.send(BROADCAST + own + ETHERNET_ARP.to_bytes(2, "big") + request)
            _listen(wire, answers, seconds)
    return {address: frozenset(macs) for address, macs in answers.items()}


def _listen(wire: socket.socket, answers: dict[IPv4Address, set[str]], seconds: float) -> None:
    """Add the ARP answers for these addresses to `answers` until `seconds`, or the grace period, have passed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        wire.settimeout(left)
        try:
            frame = wire.recv(2048)
        except TimeoutError:
            return
        if len(frame) < ARP_FRAME:
            continue
        _, _, _, _, operation, mac, sender, _, _ = struct.unpack_from(ARP_FORMAT, frame, 14)
        if operation == REPLY and IPv4Address(sender) in answers:
            was_complete = all(answers.values())
            answers[IPv4Address(sender)].add(mac.hex(":"))
            if all(answers.values()) and not was_complete:
                end = min(end, time.monotonic() + GRACE_SECONDS)


def _query_by_kernel(addresses: frozenset[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for address in addresses:
            outlet.sendto(b"", socket.MSG_DONTROUTE, (str(address), 9))
    end = time.monotonic() + KERNEL_SECONDS
    while True:
        known = {address: entry.mac for address, entry in _entries(route.device).items()}
        if addresses <= known.keys() or time.monotonic() > end:
            return {address: frozenset({known[address]} if address in known else ()) for address in addresses}
        time.sleep(POLL_SECONDS)


def _entries(device: str) -> dict[IPv4Address, Neighbour]:
    """Return the kernel's neighbour entries of an interface that have a MAC and have not failed."""
    neighbours = json.loads(run(["ip", "-j", "-4", "neigh", "show", "dev", device]).out or "[]")
    return {
        IPv4Address(entry["dst"]): Neighbour(entry["lladdr"], entry["state"][0])
        for entry in neighbours
        if "lladdr" in entry and not UNRESOLVED.intersection(entry.get("state") or UNRESOLVED)
    }
