"""Networks of this machine that conflict with the lab's, and their owners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.doctor.packages import as_root
from labctl.doctor.routes import conflicting_route, containing_route
from labctl.host import libvirt, virtualbox
from labctl.host.interfaces import interfaces
from labctl.host.machine import Machine
from labctl.host.parsing import ipv4_network, parse_json
from labctl.host.routes import KERNEL_ROUTES, TableRoute, routes, rules
from labctl.model.sentences import clause
from labctl.providers.protocol import LAB_LABEL

BRIDGE_NAME = "com.docker.network.bridge.name"
ID_LETTERS = 12
"""The number of characters of a network's id that Docker puts into the name of its bridge."""


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    """A network of the Docker Engine, with its IPv4 subnets."""

    name: str
    driver: str
    bridge: str
    subnets: tuple[IPv4Network, ...]
    lab: str
    members: frozenset[str]
    """The names of the containers that run in it."""

    def __str__(self) -> str:
        return f"the Docker network {self.name} ({self.driver})" + (f" of the lab {self.lab}" if self.lab else "")


def check_routes(context: Context, machine: Machine) -> Finding:
    """Check that no route, rule or interface of this machine takes packets for the lab's network."""
    network = context.lab.network
    known = routes(machine)
    if known is None:
        return not_relevant(f"this system has no {KERNEL_ROUTES}; compare `netstat -rn` with {network}")
    # VirtualBox shares a host-only network with the labs and machines that `virtualbox-members` looks at.
    joined = virtualbox.addresses(machine).get(context.lab.gateway) if context.lab.provider == "virtualbox" else None
    known = tuple(route for route in known if route.device != joined)
    if taken := conflicting_route(network, known, rules(machine)):
        return broken(f"network {network}: {_describe(taken, machine)}", _fix(taken, context))
    others = [each for each in interfaces(machine) if each.name != joined]
    for interface, address in ((each, address) for each in others for address in each.addresses):
        own = address.ip in network
        if interface.is_up and own:
            conflict_text = f"network {network}: {_with_owner(interface.name, machine)} has {address}"
            return broken(conflict_text, _alternatives(context))
        if own or address.network.subnet_of(network):
            conflict_text = f"network {network}: {interface.name}, which is down, has {address}"
            removal = f"{as_root(machine)}ip address del {address} dev {interface.name}"
            return warning(conflict_text, f"{_alternatives(context)} Or remove its address: `{removal}`.")
    if wider := containing_route(network, known):
        return warning(
            f"network {network}: {wider.network} is routed by {_with_owner(wider.device, machine)}, and the lab takes a part of it",
            f"Continue if you need nothing in {network} there; otherwise choose another `network` in labctl.yaml.",
        )
    return ok(f"no route or interface overlaps {network}")


def check_docker_networks(context: Context, machine: Machine) -> Finding:
    """Check that no other network of the nodes' Engine overlaps the lab's network."""
    networks = docker_networks(machine, context.isolation.engine if context.isolated else "")
    if networks is None:
        return not_relevant("the lab's own Engine is not there yet" if context.isolated else "no Docker Engine answers")
    network = context.lab.network
    nodes = {node.name for node in context.lab.nodes}
    if context.isolated and any(each.name == context.isolation.namespace or each.members & nodes for each in networks):
        return ok("the lab has its network")
    overlapping = [each for each in networks if any(map(network.overlaps, each.subnets))]
    known = () if context.isolated else routes(machine) or ()  # an isolated lab has routes of its own
    routed = {route.device for route in known if route.network.subnet_of(network)}
    if overlapping and all(each.bridge in routed for each in overlapping):
        return not_relevant(f"{clause(overlapping, 'is', 'are')} routed; see `network`")
    if overlapping:
        subnets = ", ".join(f"{each}, {' '.join(map(str, each.subnets))}" for each in overlapping)
        remove = f"{'labctl exec -- ' * context.isolated}docker network rm {overlapping[0].name}"
        fix = f"Remove it, `{remove}`; or choose another `network` in labctl.yaml."
        return broken(f"network {network}: taken by {subnets}", fix)
    return ok(f"{len(networks)} networks, none in {network}" if networks else "the Engine has no networks")


def docker_networks(machine: Machine, engine: str = "") -> tuple[DockerNetwork, ...] | None:
    """Return the networks of the Docker Engine, except those of a swarm; None if no Engine answers."""
    docker = ("docker", "--host", engine) if engine else ("docker",)
    listed = machine.run(*docker, "network", "ls", "--quiet")
    if listed is None or listed.code != 0:
        return None
    ids = listed.out.split()
    described = machine.run(*docker, "network", "inspect", *ids) if ids else None
    if described is None or described.code != 0:
        return ()
    return tuple(_parse_networks(parse_json(described.out, list)))


def _describe(taken: TableRoute, machine: Machine) -> str:
    """Describe what the machine does with packets for the lab."""
    by = f", by the rule of priority {taken.rule}" if taken.rule is not None else ""
    if taken.rejects:
        return f"this machine has {taken.network} {taken.kind}{by}"
    table = f" (table {taken.table})" if taken.rule is not None else ""
    return f"this machine already routes {taken.network} by {_with_owner(taken.device, machine)}{table}{by}"


def _alternatives(context: Context) -> str:
    """Return the alternatives to this network: only labs of containers can be isolated."""
    isolated = ", or run as root with `--isolated`" if context.hypervisor.are_containers else ""
    return f"Choose another `network` in labctl.yaml{isolated}."


def _fix(taken: TableRoute, context: Context) -> str:
    network, elsewhere = context.lab.network, _alternatives(context)
    if taken.rule:
        first = f"`sudo ip rule add to {network} lookup main priority {taken.rule - 1}`"
        return f"{elsewhere} Or give the lab's routes precedence: {first}."
    if taken.rejects:
        return f"{elsewhere} Or remove it: `sudo ip route del {taken.kind} {taken.network}`."
    return elsewhere


def _with_owner(device: str, machine: Machine) -> str:
    """Return an interface's name with its owner, since the name of a bridge does not tell users whose it is."""
    for network in docker_networks(machine) or ():
        if network.bridge == device:
            return f"{device}, {network}"
    if device.startswith("vboxnet"):
        return f"{device}, a host-only network of VirtualBox"
    owner = next((each for each in libvirt.networks(machine) if each.bridge == device), None)
    return f"{device}, {owner}" if owner else device


def _parse_networks(described: list[Mapping[str, Any]]) -> Iterator[DockerNetwork]:
    for description in described:
        if description.get("Scope", "local") != "local":
            continue  # a swarm's networks have an address space of their own
        configs = (description.get("IPAM") or {}).get("Config") or ()
        subnets = [ipv4_network(config.get("Subnet", "")) for config in configs]
        options, labels = description.get("Options") or {}, description.get("Labels") or {}
        yield DockerNetwork(
            description["Name"],
            description.get("Driver", "bridge"),
            options.get(BRIDGE_NAME) or f"br-{description.get('Id', '')[:ID_LETTERS]}",
            tuple(subnet for subnet in subnets if subnet is not None),
            labels.get(LAB_LABEL, ""),
            frozenset(each.get("Name", "") for each in (description.get("Containers") or {}).values()),
        )
