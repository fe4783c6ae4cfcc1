"""Choose a lab's address pool: the existing one, or a range that is free on this machine's networks."""

from __future__ import annotations

from dataclasses import replace

from labctl.config import UNPLANNED, from_values, saved_lab
from labctl.host.dhcp import dhcp_addresses, dhcp_servers, host_only_addresses
from labctl.host.interfaces import addresses_in_use, addresses_to_probe, own_addresses
from labctl.host.machine import Machine
from labctl.model.lab import AddressPool, Lab
from labctl.model.pools import plan, single


def choose_pool(lab: Lab, saved: Lab | None, *, isolated: bool) -> tuple[Lab, str]:
    """Return the lab with an address pool in place of `auto`, and the reason for the choice.

    A lab that names its pool is returned unchanged. A lab that exists keeps its pool, unless another network is
    requested, which `up` refuses. Raises MissingError `no-free-pool`, and UsageError `config-invalid` if requested
    nodes overlap the existing pool.
    """
    if lab.pool != UNPLANNED:
        return lab, ""
    if saved is not None and saved.network == lab.network:
        kept = replace(lab, pool=saved.pool)
        return from_values(saved_lab.values(kept)), f"pool {saved.pool}: the lab already has it"
    pool, reason = plan(lab, {}) if isolated or saved else free_pool(lab, Machine())
    return replace(lab, pool=pool), f"pool {reason}"


def free_pool(lab: Lab, machine: Machine) -> tuple[AddressPool, str]:
    """Return a range with no address in use on this machine and its networks, and the reason for the choice."""
    taken = {**own_addresses(machine), **host_only_addresses(machine), **dhcp_addresses(dhcp_servers(machine))}
    while True:
        pool, reason = plan(lab, taken)
        probed = addresses_to_probe(pool, machine)
        in_use = addresses_in_use(probed, machine) if probed else frozenset()
        if not in_use:
            return pool, reason
        taken |= {single(address): "something that answers ARP" for address in sorted(in_use)}
