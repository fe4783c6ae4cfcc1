"""Wrong addresses that a name resolves to beside the right one, and what browsers do with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from labctl.host.http_probe import HTTP, Address
from labctl.host.resolver import HostsLine, find_line
from labctl.host.tcp_connect import CONNECTED, REFUSED, SILENT, ConnectResult

CONNECT_SECONDS = 1.0
"""TCP retransmits a first packet after one second: an address that has not answered by then delays a browser."""
SHADOWED = "hosts-entry-shadowed"
DOUBLED = "hosts-entry-doubled"


@dataclass(frozen=True, slots=True)
class OtherAddress:
    """An address that a name resolves to and that is not the right one."""

    address: Address
    line: HostsLine | None
    """None if it is not in the hosts file."""
    connection: ConnectResult | None
    """None if browsers try the right address first."""

    @property
    def affects_browsers(self) -> bool:
        """Return whether a browser uses this address, or waits for it.

        A silent IPv6 address delays a browser by 0.3 s, after which it also tries an IPv4 address.
        """
        if self.connection is None or self.connection.outcome == REFUSED:
            return False
        return self.connection.outcome == CONNECTED or isinstance(self.address, IPv4Address)

    def browser_behaviour(self, right: str) -> str:
        """Return, as text, what browsers do with the address, where `right` is the right one."""
        connection = self.connection
        if connection is None:
            return f"which browsers try after {right}; this order may change"
        if connection.outcome == CONNECTED:
            return f"which browsers try before {right}: another server accepts connections there, on port {HTTP}"
        if connection.outcome == SILENT:
            waits = "for 0.3 s" if isinstance(self.address, IPv6Address) else "until it gives up"
            return f"which browsers try before {right}: it does not answer, and a browser waits {waits}"
        return f"which browsers try before {right}: it does not accept connections ({connection.reason}), so they try the next one"


def from_lines(
    lines: Sequence[HostsLine], connect: Callable[[Sequence[Address]], Mapping[Address, ConnectResult]]
) -> list[OtherAddress]:
    """Return the addresses of these lines, all of which browsers will try before the right one, not yet written."""
    first = {line.address: line for line in reversed(lines)}
    results = connect(list(first)) if first else {}
    return [OtherAddress(address, line, results[address]) for address, line in first.items()]


def find(
    addresses: Sequence[Address],
    lines: Sequence[HostsLine],
    right: Address | None,
    connect: Callable[[Sequence[Address]], Mapping[Address, ConnectResult]],
) -> list[OtherAddress]:
    """Return a name's wrong addresses; connect to those that browsers try first, and include the outcome.

    A name server rotates its addresses, so any of them may come first. Lines that the resolver ignores, as glibc does
    without `multi on`, count for programs that read the file themselves.
    """
    others: dict[Address, HostsLine | None] = {each: find_line(lines, each) for each in addresses}
    first: list[Address] = []
    if right in addresses:
        place = addresses.index(right)
        first = [
            each for number, each in enumerate(addresses) if number < place or (number > place and others[each] is None)
        ]
        for line in lines:
            others.setdefault(line.address, line)
    results = connect(first) if first else {}
    return [OtherAddress(each, line, results.get(each)) for each, line in others.items() if each != right]
