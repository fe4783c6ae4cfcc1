"""Match packets against nftables rules; None means unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network
from typing import Any

TCP, TCP_NUMBER = "tcp", 6
ETHERNET, MAC_BYTES, ADDRESS_BYTES = 1, 6, 4
"""The hardware type of an ARP packet on Ethernet, and the lengths of its MAC and IPv4 addresses."""
REQUEST, REPLY = "request", "reply"
NEW, ESTABLISHED = "new", "established"
"""States of connections."""
OTHER_PROTOCOLS = frozenset({"udp", "udplite", "icmp", "icmpv6", "igmp", "ip6", "sctp", "dccp", "esp", "ah"})
OPERATORS = frozenset({"==", "!=", "in"})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP packet at a hook. None means unknown."""

    source: IPv4Address
    target: IPv4Address
    source_port: int | None
    target_port: int | None
    comes_in: str | None
    goes_out: str | None
    state: str
    """The connection's state: new or established."""

    def device_at(self, hook: str) -> str | None:
        """Return the packet's interface at the hook `ingress` or `egress`."""
        return self.comes_in if hook == "ingress" else self.goes_out

    @property
    def fields(self) -> Mapping[tuple[str, str], Any]:
        """Return the packet's fields by their names in nftables."""
        ports = {"dport": self.target_port, "sport": self.source_port}
        return {
            ("ip", "daddr"): self.target,
            ("ip", "saddr"): self.source,
            ("ip", "protocol"): TCP,
            **{(protocol, name): port for protocol in (TCP, "th") for name, port in ports.items()},
            ("meta", "l4proto"): TCP,
            ("meta", "nfproto"): "ipv4",
            ("meta", "protocol"): "ip",
            ("ether", "type"): "ip",
            **{("meta", key): self.comes_in for key in ("iif", "iifname")},
            **{("meta", key): self.goes_out for key in ("oif", "oifname")},
            ("ct", "state"): self.state,
        }


@dataclass(frozen=True, slots=True)
class ArpPacket:
    """An ARP request for an address, or the reply."""

    source: IPv4Address
    target: IPv4Address
    operation: str
    """The operation: request or reply."""
    device: str | None
    """None means unknown."""

    def device_at(self, _hook: str) -> str | None:
        """Return the packet's interface."""
        return self.device

    @property
    def fields(self) -> Mapping[tuple[str, str], Any]:
        """Return the packet's fields by their names in nftables."""
        return {
            ("arp", "operation"): self.operation,
            ("arp", "saddr ip"): self.source,
            ("arp", "daddr ip"): self.target,
            ("arp", "htype"): ETHERNET,
            ("arp", "hlen"): MAC_BYTES,
            ("arp", "plen"): ADDRESS_BYTES,
            ("ether", "type"): "arp",
            ("meta", "protocol"): "arp",
            **{("meta", key): self.device for key in ("iif", "iifname", "oif", "oifname")},
        }


def meets(packet: Packet | ArpPacket, match: Json, elements: Sequence[Any] | None) -> bool | None:
    """Return whether a packet meets a match, with the `elements` of its right side; None if unknown."""
    left, op = match["left"], match.get("op", "==")
    if left.get("payload", {}).get("protocol") in OTHER_PROTOCOLS:
        return False
    actual = value(packet, left)
    if actual is None or elements is None or op not in OPERATORS:
        return None
    met = any_of(same(actual, each) for each in elements)
    return met if met is None or op != "!=" else not met


def value(packet: Packet | ArpPacket, left: Json) -> Any:  # noqa: ANN401 - an address, a number, a word, or a list of them
    """Return the packet's value for the left side of a match."""
    [(kind, content)] = left.items()
    if kind == "concat":
        parts = [value(packet, each) for each in content]
        return None if None in parts else parts
    if not isinstance(content, dict):
        return None
    key = (content.get("protocol"), content.get("field")) if kind == "payload" else (kind, content.get("key"))
    return packet.fields.get((str(key[0]), str(key[1])))


def any_of(answers: Any) -> bool | None:  # noqa: ANN401 - each True, False or None
    """Return True if any answer is True, None if any is unknown, else False."""
    distinct = set(answers)
    return True if True in distinct else (None if None in distinct else False)


def same(actual: Any, wanted: Any) -> bool | None:  # noqa: ANN401 - what a rule may compare
    """Return whether a packet's value equals the rule's value or is in its range; None if unknown."""
    if isinstance(wanted, dict):
        kind, content = next(iter(wanted.items()))
        return STRUCTURES[kind](actual, content) if kind in STRUCTURES else None
    if isinstance(actual, IPv4Address):
        return _is_in(actual, str(wanted))
    if isinstance(actual, str) and isinstance(wanted, str):
        return fnmatchcase(actual, wanted)
    if actual == TCP:
        return bool(wanted == TCP_NUMBER)
    return actual == wanted if isinstance(actual, int) and isinstance(wanted, int) else None


def _in_range(actual: Any, bounds: Sequence[Any]) -> bool | None:  # noqa: ANN401 - an address or a number
    low, high = bounds
    if isinstance(actual, IPv4Address):
        return IPv4Address(low) <= actual <= IPv4Address(high)
    return bool(low <= actual <= high) if isinstance(actual, int) and isinstance(low, int) else None


def _in_concat(actual: Any, parts: Sequence[Any]) -> bool | None:  # noqa: ANN401 - a list of values
    if not isinstance(actual, list):
        return None
    differs = any_of(_not(same(one, other)) for one, other in zip(actual, parts, strict=False))
    return _not(differs)


def _not(answer: bool | None) -> bool | None:  # noqa: FBT001 - True, False or None
    return None if answer is None else not answer


def _is_in(address: IPv4Address, network: str) -> bool | None:
    try:
        return address in IPv4Network(network, strict=False)
    except ValueError:
        return None


STRUCTURES: Mapping[str, Callable[[Any, Any], bool | None]] = {
    "prefix": lambda actual, prefix: (
        _is_in(actual, f"{prefix['addr']}/{prefix['len']}") if isinstance(actual, IPv4Address) else None
    ),
    "range": _in_range,
    "concat": _in_concat,
    "elem": lambda actual, element: same(actual, element["val"]),
}
