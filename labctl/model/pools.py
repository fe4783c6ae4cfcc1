"""The range of a lab's network that MetalLB can assign. Pure: callers find out which ranges are in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from labctl.model.errors import MissingError
from labctl.model.lab import AddressPool, Lab, Node

Taken = Mapping[AddressPool, str]
"""Ranges in use, each with its user."""


def default_pool(network: IPv4Network) -> AddressPool:
    """Return the default range of a network's pool, .100 to .110; small networks do not contain it."""
    return AddressPool(network.network_address + 100, network.network_address + 110)


def single(address: IPv4Address) -> AddressPool:
    """Return the range that consists of a single address."""
    return AddressPool(address, address)


def reserved(lab: Lab, nodes: Sequence[Node]) -> dict[AddressPool, str]:
    """Return the addresses that the lab itself uses, with these nodes, and for what."""
    return {
        single(lab.network.network_address): "the network address",
        single(lab.gateway): "the gateway",
        **{single(node.address): f"node {node.name}" for node in nodes},
        single(lab.network.broadcast_address): "the broadcast address",
    }


def conflicts(pool: AddressPool, taken: Taken) -> list[str]:
    """Return the users of addresses of the pool, each with the address or range."""
    return [
        f"{who} ({_range_text(other)})"
        for other, who in taken.items()
        if other.first <= pool.last and pool.first <= other.last
    ]


def plan(lab: Lab, taken: Taken) -> tuple[AddressPool, str]:
    """Return the default range if it is free, else the largest free range, and the reason.

    Addresses of workers that the lab does not have yet stay free as long as there is another choice.
    Raises MissingError `no-free-pool`.
    """
    preferred = default_pool(lab.network)
    obstacles = ", ".join(conflicts(preferred, {**reserved(lab, lab.nodes), **taken}))
    if preferred.last not in lab.network:
        obstacles = f"outside {lab.network}"
    if not obstacles:
        return preferred, f"{preferred} is free"
    for nodes in (lab.possible_nodes, lab.nodes):
        if free := _free_ranges(lab.network, {**reserved(lab, nodes), **taken}):
            largest = max(free, key=len)
            return largest, f"{largest} is the largest free range; {preferred} is not free: {obstacles}"
    raise MissingError(
        f"network {lab.network}: no address is free for a pool: {', '.join(taken.values())}",
        id="no-free-pool",
        hint="Choose another `network` in labctl.yaml.",
    )


def _free_ranges(network: IPv4Network, taken: Iterable[AddressPool]) -> list[AddressPool]:
    """Return the free ranges between those in use."""
    gaps, start = [], int(network.network_address)
    inside = (each for each in taken if each.first <= network.broadcast_address)
    for each in sorted(inside, key=lambda each: each.first):
        if start < int(each.first):
            gaps.append(AddressPool(IPv4Address(start), each.first - 1))
        start = max(start, int(each.last) + 1)
    return gaps


def _range_text(pool: AddressPool) -> str:
    return str(pool.first) if pool.first == pool.last else str(pool)
