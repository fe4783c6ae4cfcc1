"""The lab's host-only network of VirtualBox: other machines in it, and the DHCP server that VirtualBox adds."""

from __future__ import annotations

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, ok
from labctl.host import virtualbox
from labctl.host.machine import Machine
from labctl.host.process import check
from labctl.host.virtualbox import NETWORK, Server
from labctl.model.sentences import clause


def check_members(context: Context, machine: Machine) -> Finding:
    """Check that only the lab's own machines are connected to the host-only interface that Vagrant uses for the lab.

    Vagrant selects the interface by its subnet, whoever created it.
    """
    network = context.lab.network
    interfaces = {name: address for address, name in virtualbox.addresses(machine).items() if address in network}
    for interface, address in interfaces.items():
        if others := _others(context, machine, interface):
            return broken(
                f"network {network}: {clause(others, 'is', 'are')} connected to VirtualBox's {interface} in it",
                "Choose another `network` in labctl.yaml, such as 192.168.57.0/24; "
                "or connect these machines to another network.",
            )
        if address != context.lab.gateway:
            return broken(
                f"network {network}: this machine is {address} in VirtualBox's {interface}, not {context.lab.gateway}",
                f"`{virtualbox.PROGRAM} hostonlyif ipconfig {interface} --ip {context.lab.gateway} "
                f"--netmask {network.netmask}`; or choose another `network` in labctl.yaml.",
            )
    there = clause(interfaces or ("no host-only interface",), "is", "are")
    return ok(f"{there} in {network}, and no other machine is connected to it")


def check_servers(context: Context, machine: Machine) -> Finding:
    """Check that no DHCP server of VirtualBox hands out addresses of the lab's network."""
    servers = _servers(context, machine)
    if not servers:
        return ok(f"no DHCP server of VirtualBox hands out addresses of {context.lab.network}")
    ranges = " and ".join(f"{each.network} hands out {each.first}-{each.last}" for each in servers)
    removal = " and ".join(f"`{' '.join(each.removal)}`" for each in servers)
    return broken(
        f"a DHCP server of VirtualBox is in the lab's network: {ranges}",
        f"Remove it: {removal}; `labctl up --yes` and `labctl doctor --fix` do it if no other machine is in its network.",
    )


def remove_servers(context: Context, machine: Machine) -> None:
    """Remove the servers that only the lab's own machines can use."""
    for each in _servers(context, machine):
        if not _others(context, machine, each.network.removeprefix(NETWORK)):
            check(each.removal)


def _servers(context: Context, machine: Machine) -> tuple[Server, ...]:
    network = context.lab.network
    return tuple(each for each in virtualbox.servers(machine) if each.first in network or each.last in network)


def _others(context: Context, machine: Machine, interface: str) -> list[str]:
    """Return the machines that are connected to a host-only interface and are not nodes of the lab."""
    nodes = {node.name for node in context.lab.possible_nodes}
    return [name for name in virtualbox.connected_machines(machine, interface) if name not in nodes]
