"""Checks that the addresses of the pool are free."""

from __future__ import annotations

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.host.dhcp import dhcp_addresses, dhcp_servers, host_only_addresses
from labctl.host.interfaces import addresses_in_use, addresses_to_probe, own_addresses
from labctl.host.machine import Machine
from labctl.model.pools import conflicts, reserved

ANOTHER_POOL = "set `pool: auto` in labctl.yaml, and labctl takes a free range"


def check_pool(context: Context, machine: Machine) -> Finding:
    """Check that neither nodes, nor gateway, nor this machine have an address of the pool."""
    lab = context.lab
    overlaps = conflicts(lab.pool, {**reserved(lab, lab.nodes), **own_addresses(machine)})
    if overlaps:
        return broken(f"pool {lab.pool}: overlaps {', '.join(overlaps)}", f"Choose another, or {ANOTHER_POOL}.")
    return ok(f"{lab.pool} does not overlap nodes, gateway or this machine's addresses")


def check_dhcp(context: Context, machine: Machine) -> Finding:
    """Check that neither VirtualBox nor libvirt has an address of the pool, or a DHCP server that hands one out."""
    lab = context.lab
    servers = dhcp_servers(machine)
    if overlaps := conflicts(lab.pool, {**host_only_addresses(machine), **dhcp_addresses(servers)}):
        cures = [server.fix for server in servers if conflicts(lab.pool, dhcp_addresses([server]))]
        return broken(
            f"pool {lab.pool}: overlaps {', '.join(overlaps)}",
            f"{' and '.join(cures) or 'Choose another pool'}; or {ANOTHER_POOL}.",
        )
    return ok(f"no DHCP server of VirtualBox or libvirt hands out addresses of {lab.pool}")


def check_answers(context: Context, machine: Machine) -> Finding:
    """Check that nothing on the network answers ARP for an address of the pool."""
    lab = context.lab
    probed = addresses_to_probe(lab.pool, machine)
    if not probed:
        return not_relevant(f"no interface of this machine is on {lab.network}, so no address was checked")
    if in_use := sorted(addresses_in_use(probed, machine)):
        addresses = ", ".join(map(str, in_use))
        return broken(
            f"pool {lab.pool}: something on the network already answers for {addresses}",
            f"Find it by its MAC address, `ip neigh show {in_use[0]}`; or {ANOTHER_POOL}.",
        )
    return ok(f"nothing answers ARP for {len(probed)} addresses of {lab.pool}")
