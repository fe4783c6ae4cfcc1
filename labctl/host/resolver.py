"""What this machine's resolver returns for a name, and which lines of a hosts file name it."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from labctl.host import hosts_file
from labctl.host.http_probe import HTTP, Address

HOSTS = Path("/etc/hosts")
"""The file that the system's resolver reads, whichever hosts file the lab writes."""
RESOLVE_SECONDS = 2.0
"""How long to wait for a name. A hosts file takes milliseconds, a name server less than a second."""
LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class HostsLine:
    """A line of the hosts file, and the lab whose block contains it, if any."""

    number: int
    address: Address
    text: str
    block: str | None


def resolve(hostname: str, limit: float = RESOLVE_SECONDS) -> list[Address]:
    """Return a name's addresses in the order in which browsers try them.

    The list is empty if there are none, or if the resolver does not answer within the limit.
    """
    answers: queue.Queue[list[Address]] = queue.Queue()
    # A lookup cannot be interrupted, so its thread is abandoned.
    threading.Thread(target=lambda: answers.put(_lookup(hostname)), daemon=True).start()
    try:
        return answers.get(timeout=limit)
    except queue.Empty:
        return []


def resolve_timed(hostname: str, limit: float = RESOLVE_SECONDS) -> tuple[list[Address], float]:
    """Return what `resolve` does, and the seconds it took."""
    began = time.monotonic()
    addresses = resolve(hostname, limit)
    return addresses, time.monotonic() - began


def hosts_lines(content: bytes, hostname: str) -> tuple[HostsLine, ...]:
    """Return the lines of a hosts file for a name, in order; lines without a valid address are skipped."""
    return tuple(
        HostsLine(entry.number, address, entry.text, entry.block)
        for entry in hosts_file.entries(content)
        if hostname.casefold() in entry.names and (address := parse_address(entry.address))
    )


def find_line(lines: Sequence[HostsLine], address: Address) -> HostsLine | None:
    """Return the first of a name's lines with this address; None if there is none.

    A name may have several lines, and the resolver sorts their addresses: the first line need not win. To a program that
    asks for IPv4 only, glibc returns 127.0.0.1 for a line with ::1.
    """
    accepted = (address, *LOOPBACKS) if address == LOOPBACKS[0] else (address,)
    return next((line for each in accepted for line in lines if line.address == each), None)


def _lookup(hostname: str) -> list[Address]:
    """Return a name's addresses of both families, in the order in which browsers try them.

    Browsers skip a family that this machine has no address of. An address that they try before a common one comes
    before it here, too.
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
        entries = socket.getaddrinfo(hostname, HTTP, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return
    for entry in entries:
        if address := parse_address(str(entry[4][0])):
            yield address


def parse_address(word: str) -> Address | None:
    """Return the address; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        address = ip_address(word)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
