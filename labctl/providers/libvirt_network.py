"""The lab's two networks in libvirt: labctl creates, marks and removes them.

Vagrant would use any network with the subnet, whatever its name, and its `destroy` would remove that network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from xml.sax.saxutils import quoteattr

from labctl.host.interfaces import interfaces
from labctl.host.libvirt import Mark, Network
from labctl.host.machine import Machine
from labctl.host.paths import real
from labctl.host.process import Finished, failure
from labctl.host.routes import routes
from labctl.model.errors import ProviderError
from labctl.model.lab import POD_NETWORK, SERVICE_NETWORK, Lab
from labctl.providers import virsh

MANAGEMENT = tuple(IPv4Network(f"192.168.{number}.0/24") for number in range(130, 190))
"""The possible subnets of a lab's management network: 122 is libvirt's own default, and 121 vagrant-libvirt's."""
ATTEMPTS = 3
"""How many subnets to try if other programs take one at the same moment."""
TAKEN = re.compile(r"already in use by interface (\S+)")


@dataclass(frozen=True, slots=True)
class LibvirtNetworks:
    """The network of a lab's nodes, without an uplink, and their management network, with NAT and DHCP."""

    lab: Lab
    state: Path

    @property
    def name(self) -> str:
        """Return the name of the nodes' network; the Vagrantfile uses it as well."""
        return f"labctl-{self.lab.name}"

    @property
    def management(self) -> str:
        """Return the name of the management network; the Vagrantfile uses it as well."""
        return f"{self.name}-nat"

    @property
    def mark(self) -> Mark:
        """Return the mark of this lab's networks in libvirt."""
        return Mark(self.lab.name, str(real(self.state)))

    def ensure(self) -> None:
        """Define and start both networks, unless they exist and are active.

        Raises ProviderError `network-not-ours` if a network of the name is not this lab's, and `network-taken` if
        another network or interface has the lab's subnet.
        """
        known = virsh.networks()
        active = virsh.names("net-list", "--name")
        self._refuse(known)
        if not any(each.name == self.name for each in known):
            self._define(self.name, self.lab.network)
        if self.name not in active and (started := virsh.run_virsh("net-start", self.name)).code != 0:
            raise self._start_error(self.name, self.lab.network, started)
        if self.management not in active:
            self._start_management(known)

    def remove(self) -> Iterator[str]:
        """Remove both networks; yield the reason for each that was left."""
        active = virsh.names("net-list", "--name")
        for each in virsh.networks():
            if each.name not in {self.name, self.management}:
                continue
            if each.mark != self.mark:
                yield f"{each} is not this lab's and was left"
                continue
            if each.name in active:
                if users := _connected_domains(each.name):
                    yield f"{each} was left: in use by {', '.join(users)}. Remove it later with {_removal(each.name)}"
                    continue
                virsh.check_virsh("net-destroy", each.name)
            virsh.check_virsh("net-undefine", each.name)

    def bridge(self) -> str:
        """Return the interface of the nodes' network on this machine; empty if the network does not exist."""
        return next((each.bridge for each in virsh.networks() if each.name == self.name), "")

    def _refuse(self, known: Sequence[Network]) -> None:
        for each in known:
            if each.name in {self.name, self.management}:
                if each.mark != self.mark:
                    raise ProviderError(
                        f"libvirt's network {each.name}: it is not this lab's "
                        f"({f'it belongs to {each.mark.folder}' if each.mark else 'it has no mark of labctl'})",
                        id="network-not-ours",
                        hint=f"Give this lab another --name, or remove the network: {_removal(each.name)}.",
                    )
            elif any(self.lab.network.overlaps(address.network) for address in each.addresses):
                raise subnet_in_use_error(self.lab.network, str(each))

    def _start_management(self, known: Sequence[Network]) -> None:
        """Start the management network in a free subnet; libvirt rejects one that an interface uses."""
        others = [each for each in known if each.name != self.management]
        old = [address.network for each in known if each.name == self.management for address in each.addresses]
        for subnet in free_subnets(Machine(), self.lab, others, old)[:ATTEMPTS]:
            if [subnet] != old:
                if old:
                    virsh.check_virsh("net-undefine", self.management)
                self._define(self.management, subnet, nat=True)
            old = [subnet]
            refused = virsh.run_virsh("net-start", self.management)
            if refused.code == 0:
                return
            if not TAKEN.search("\n".join(refused.last_lines)):
                raise self._start_error(self.management, subnet, refused)
        raise no_subnet_error(self.management)

    def _define(self, name: str, subnet: IPv4Network, *, nat: bool = False) -> None:
        own, first, last = subnet.network_address + 1, subnet.network_address + 2, subnet.broadcast_address - 1
        leases = f'<dhcp><range start="{first}" end="{last}"/></dhcp>' if nat else ""
        text = f"""<network>
  <name>{name}</name>
  <metadata>{self.mark.element()}</metadata>
  {'<forward mode="nat"/>' if nat else '<dns enable="no"/>'}
  <bridge stp="off" delay="0"/>
  <ip address={quoteattr(str(own))} prefix="{subnet.prefixlen}">{leases}</ip>
</network>"""
        virsh.check_virsh("net-define", "/dev/stdin", stdin=text.encode())

    def _start_error(self, name: str, subnet: IPv4Network, finished: Finished) -> ProviderError:
        output = "\n".join(finished.last_lines)
        if interface := TAKEN.search(output):
            return subnet_in_use_error(subnet, f"the interface {interface[1]}")
        hint = f"`{virsh.command_text('net-start', name)}` must succeed. Then run the same command again."
        return failure(
            ProviderError(f"libvirt cannot start the network {name}", id="network-not-started", hint=hint), output
        )


def _removal(network: str) -> str:
    """Return the commands that remove a network: `net-undefine` alone leaves an active one running."""
    return f"`{virsh.command_text('net-destroy', network)}` and `{virsh.command_text('net-undefine', network)}`"


def subnet_in_use_error(subnet: IPv4Network, holder: str) -> ProviderError:
    """Return the error for a subnet that another network uses."""
    return ProviderError(
        f"network {subnet} is in use by {holder}",
        id="network-taken",
        hint="Choose another `network` in labctl.yaml, or remove the other network if nobody needs it.",
    )


def no_subnet_error(network: str) -> ProviderError:
    """Return the error for a management network that no subnet is free for."""
    return ProviderError(
        f"no subnet is free for libvirt's network {network}, from {MANAGEMENT[0]} to {MANAGEMENT[-1]}",
        id="management-network-taken",
        hint=f"Free one of them: `ip route` and `{virsh.command_text('net-list', '--all')}` show what uses them.",
    )


def free_subnets(
    machine: Machine, lab: Lab, others: Sequence[Network], old: Sequence[IPv4Network]
) -> list[IPv4Network]:
    """Return the subnets of MANAGEMENT that nothing on the machine uses, beginning with the one that the network had.

    Put those last that a route to a larger network covers, such as a VPN's to all private addresses: that route still
    applies to all other addresses.
    """
    routed = [route.network for route in routes(machine) or () if route.network.prefixlen > 0]
    used = [lab.network, POD_NETWORK, SERVICE_NETWORK]
    used += [address.network for each in others for address in each.addresses]
    used += [address.network for each in interfaces(machine) for address in each.addresses]
    used += [network for network in routed if network.prefixlen >= MANAGEMENT[0].prefixlen]
    free = [subnet for subnet in dict.fromkeys((*old, *MANAGEMENT)) if not any(map(subnet.overlaps, used))]
    return sorted(free, key=lambda subnet: any(map(subnet.overlaps, routed)))


def _connected_domains(name: str) -> list[str]:
    """Return the names of the active domains that have an interface in the network."""
    machines = virsh.descriptions("dom", virsh.names("list", "--name"))
    sources = {each.findtext("name", ""): each.findall("devices/interface/source") for each in machines}
    return sorted(machine for machine, used in sources.items() if any(each.get("network") == name for each in used))
