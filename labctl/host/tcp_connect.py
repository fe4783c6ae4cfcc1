"""Connect over TCP to one or several addresses at once, and report the outcomes."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from labctl.host import arp
from labctl.host.http_probe import HTTP, Address

Outcome = Literal["connected", "refused", "unreachable", "silent"]
CONNECTED: Outcome = "connected"
REFUSED: Outcome = "refused"
"""A reset or a kernel error, reported at once."""
UNREACHABLE: Outcome = "unreachable"
"""Reported by a router, or by the kernel after some seconds without an ARP reply."""
SILENT: Outcome = "silent"


@dataclass(frozen=True, slots=True)
class ConnectResult:
    """The outcome of a connection, and the system's error message."""

    outcome: Outcome
    reason: str = ""


def connect_settled(addresses: Sequence[Address], seconds: float, port: int = HTTP) -> dict[Address, ConnectResult]:
    """Connect once to each of the addresses, as a browser would, and return the outcomes.

    On a directly attached network, the kernel reports an unused address as unreachable after three seconds, some of
    which may have passed before: connecting again shows whether the outcome is the same.
    """
    return {address: _settled(address, each) for address, each in connect_once(addresses, port, seconds).items()}


def connect_once(addresses: Sequence[Address], port: int, seconds: float) -> dict[Address, ConnectResult]:
    """Connect once to each of the addresses at the same time, and close the connections without sending data."""
    end = time.monotonic() + seconds
    outcomes: dict[Address, ConnectResult] = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for address in addresses:
            family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
            try:
                connection = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                connection.setblocking(False)
                code = connection.connect_ex((str(address), port))
            except OSError as error:  # a kernel without IPv6
                code = error.errno or errno.EINVAL
            else:
                if code == errno.EINPROGRESS:
                    selector.register(connection, selectors.EVENT_WRITE, (address, connection))
                    continue
            outcomes[address] = ConnectResult(REFUSED, os.strerror(code)) if code else ConnectResult(CONNECTED)
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                address, connection = key.data
                selector.unregister(connection)
                outcomes[address] = _result(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    return {
        address: outcomes.get(address, ConnectResult(SILENT, f"no answer in {seconds:.1f} s")) for address in addresses
    }


def _result(code: int) -> ConnectResult:
    if code == 0:
        return ConnectResult(CONNECTED)
    return ConnectResult(UNREACHABLE if code == errno.EHOSTUNREACH else REFUSED, os.strerror(code))


def _settled(address: Address, outcome: ConnectResult) -> ConnectResult:
    if outcome.outcome != UNREACHABLE:
        return outcome
    route = arp.route(address) if isinstance(address, IPv4Address) else None
    is_from_router = route is not None and bool(route.gateway)
    return ConnectResult(REFUSED if is_from_router else SILENT, outcome.reason)
