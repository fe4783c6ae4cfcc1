"""Who takes addresses of the pool already, and the choice of a pool that nobody does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import islice

from labctl.config import UNPLANNED, from_values, saved_lab
from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.doctor.hypervisors import DhcpServer, dhcp_servers, host_only_addresses
from labctl.doctor.network import interfaces
from labctl.host.machine import Machine
from labctl.model.lab import AddressPool, Lab
from labctl.model.pools import conflicts, plan, reserved, single

ASKED_AT_MOST = 256
"""How many addresses of a pool are asked for by ARP: the kernel remembers 1024 at most."""
ANOTHER_POOL = "set `pool: auto` in labctl.yaml, and labctl takes a range that is free"


def look_at_pool(context: Context, seen: Machine) -> Finding:
    """Neither nodes, nor gateway, nor this machine have an address of the pool."""
    lab = context.lab
    found = conflicts(lab.pool, {**reserved(lab, lab.nodes), **_own_addresses(seen)})
    if found:
        return broken(f"pool {lab.pool}: overlaps {', '.join(found)}", f"Choose another, or {ANOTHER_POOL}.")
    return ok(f"{lab.pool} is beside nodes, gateway and this machine's own addresses")


def look_at_dhcp(context: Context, seen: Machine) -> Finding:
    """Neither VirtualBox nor libvirt has an address of the pool, or a DHCP server that hands one out."""
    lab = context.lab
    servers = dhcp_servers(seen)
    if found := conflicts(lab.pool, {**_host_only(seen), **_handed_out(servers)}):
        cures = [server.cure for server in servers if conflicts(lab.pool, _handed_out([server]))]
        return broken(
            f"pool {lab.pool}: overlaps {', '.join(found)}",
            f"{' and '.join(cures) or 'Choose another pool'}; or {ANOTHER_POOL}.",
        )
    return ok(f"no DHCP server of VirtualBox or libvirt hands out addresses of {lab.pool}")


def look_at_answers(context: Context, seen: Machine) -> Finding:
    """Nobody on the network answers for an address of the pool. Nothing is sent where the network is not connected."""
    lab = context.lab
    asked = _connected(lab.pool, seen)
    if not asked:
        return not_relevant(f"no interface of this machine is on {lab.network}, so nobody was asked")
    if answered := sorted(seen.answering(asked)):
        found = ", ".join(map(str, answered))
        return broken(
            f"pool {lab.pool}: something on the network already answers for {found}",
            f"Find it by its MAC, `ip neigh show {answered[0]}`; or {ANOTHER_POOL}.",
        )
    return ok(f"nobody answers ARP for {len(asked)} addresses of {lab.pool}")


def choose_pool(lab: Lab, made: Lab | None, *, isolated: bool) -> tuple[Lab, str]:
    """The lab with a pool in the place of `auto`, and why it is this one; a lab that names its pool is as it was.

    A lab that was made keeps its pool, unless another network is asked for, which `up` refuses; one yet to be made gets
    what is free. Raises MissingError `no-free-pool`, and UsageError `config-invalid` where nodes that are asked for now
    are in the pool that was made.
    """
    if lab.pool != UNPLANNED:
        return lab, ""
    if made is not None and made.network == lab.network:
        kept = replace(lab, pool=made.pool)
        return from_values(saved_lab.values(kept)), f"pool {made.pool}: the lab has had it since it was made"
    pool, reason = plan(lab, {}) if isolated or made else free_pool(lab, Machine())
    return replace(lab, pool=pool), f"pool {reason}"


def free_pool(lab: Lab, seen: Machine) -> tuple[AddressPool, str]:
    """A range of which nothing is known to be taken on this machine and its networks, and why it is this one."""
    taken = {**_own_addresses(seen), **_host_only(seen), **_handed_out(dhcp_servers(seen))}
    while True:
        pool, reason = plan(lab, taken)
        near = _connected(pool, seen)
        answered = seen.answering(near) if near else frozenset()
        if not answered:
            return pool, reason
        taken |= {single(address): "something that answers ARP" for address in sorted(answered)}


def _own_addresses(seen: Machine) -> dict[AddressPool, str]:
    return {single(found.address.ip): f"this machine's own address on {found.name}" for found in interfaces(seen)}


def _host_only(seen: Machine) -> dict[AddressPool, str]:
    """The host's addresses in VirtualBox's networks, which the kernel knows only while a machine of theirs runs."""
    return {single(address): f"VirtualBox's {name}" for address, name in host_only_addresses(seen).items()}


def _handed_out(servers: Sequence[DhcpServer]) -> dict[AddressPool, str]:
    """What DHCP servers have and hand out, each range once."""
    ranges = {AddressPool(server.first, server.last): server.name for server in servers}
    return {**{single(server.address): server.name for server in servers}, **ranges}


def _connected(pool: AddressPool, seen: Machine) -> Collection[IPv4Address]:
    """Those of the pool's first addresses that are on a network that an interface, which is up, is directly on."""
    on = [found.address for found in interfaces(seen) if found.is_up]
    own = {address.ip for address in on}
    near = (address for address in pool if address not in own and any(address in each.network for each in on))
    return tuple(islice(near, ASKED_AT_MOST))
