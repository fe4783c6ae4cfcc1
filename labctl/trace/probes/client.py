"""Measure from this machine, as a client: names, routes, ARP and requests."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from labctl.context import Context
from labctl.host import arp, http_probe, resolver, tcp_connect
from labctl.host.arp import Neighbour, Route
from labctl.host.http_probe import Address
from labctl.host.interfaces import Interface, interfaces
from labctl.host.machine import Machine
from labctl.host.process import run
from labctl.host.resolver import HOSTS, RESOLVE_SECONDS, HostsLine
from labctl.host.routes import TableRoute, routes, rules
from labctl.host.tcp_connect import ConnectResult
from labctl.isolation import namespaces
from labctl.model.errors import ProviderError
from labctl.model.limits import NORMAL, Limits
from labctl.trace.probes import exchange, filters
from labctl.trace.probes.exchange import Connection, Exchange
from labctl.trace.probes.filters import Ruleset

NSSWITCH = Path("/etc/nsswitch.conf")
BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class Client:
    """A client on this machine, which makes the measurements."""

    def __init__(self, limits: Limits = NORMAL) -> None:
        self._limits = limits

    @property
    def hosts(self) -> Path:
        """The file that the system's resolver reads."""
        return HOSTS

    @property
    def nsswitch(self) -> Path:
        """The file that sets the sources of the system's resolver, and their order."""
        return NSSWITCH

    @property
    def is_root(self) -> bool:
        """Return whether this user can write the hosts file without sudo."""
        return os.geteuid() == 0

    @property
    def environment(self) -> Mapping[str, str]:
        """The user's environment."""
        return os.environ

    def resolve(self, hostname: str, limit: float = RESOLVE_SECONDS) -> tuple[list[Address], float]:
        """Resolve a name; return the addresses in the order in which browsers try them, and the seconds it took.

        The addresses are empty if there are none, or if the resolver does not answer within the limit.
        """
        return resolver.resolve_timed(hostname, limit)

    def hosts_lines(self, hostname: str) -> tuple[HostsLine, ...]:
        """Return the hosts file's lines for a name, in order; lines without a valid address are skipped."""
        return resolver.hosts_lines(self.hosts_content(), hostname)

    def hosts_line(self, hostname: str, address: Address) -> HostsLine | None:
        """Return the first line of the hosts file with this name and address; None if there is none."""
        return resolver.find_line(self.hosts_lines(hostname), address)

    def hosts_content(self) -> bytes:
        """Return the hosts file's content; empty if this user, and so the resolver, cannot read it."""
        try:
            return self.hosts.read_bytes()
        except OSError:
            return b""

    def is_mounted(self, file: Path) -> bool:
        """Return whether a file is a mount point, so that it cannot be replaced."""
        try:
            return bool(namespaces.mounts_below(file))
        except OSError:  # not Linux
            return False

    def connect(
        self, addresses: Sequence[Address], seconds: float, port: int = http_probe.HTTP
    ) -> dict[Address, ConnectResult]:
        """Connect once over TCP to each of the addresses, as a browser would, and return the outcomes."""
        return tcp_connect.connect_settled(addresses, seconds, port)

    def route(self, address: IPv4Address) -> Route | None:
        """Return the kernel's route to an address; None if there is none."""
        return arp.route(address)

    def query_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:
        """Return the MACs that answer ARP for each of the addresses on the route's network."""
        return arp.query(addresses, route, self._limits.arp)

    @property
    def may_query_arp(self) -> bool:
        """Return whether this user can send ARP requests, instead of only reading the kernel's ARP table."""
        return arp.may_send_requests()

    def neighbour(self, address: IPv4Address, route: Route) -> Neighbour | None:
        """Return the kernel's ARP table entry for an address."""
        return arp.cached_neighbour(address, route.device)

    def owner_of(self, mac: str, context: Context) -> str:
        """Return the provider's node or the bridge port that has a MAC; empty if none has."""
        network = context.provider.network()
        member = network.members.get(mac) if network else None
        ports = [each["ifname"] for each in _listed(["bridge", "-j", "fdb", "show"]) if each["mac"] == mac]
        return member or (f"behind {ports[0]}" if ports else "")

    def routes(self) -> Sequence[TableRoute]:
        """Return the kernel's routes, including those to its own addresses."""
        return routes(Machine()) or ()

    def routing_rules(self) -> Sequence[Mapping[str, Any]]:
        """Return the kernel's rules that choose a routing table, in their order."""
        return rules(Machine())

    def interfaces(self) -> Sequence[Interface]:
        """Return this machine's interfaces, each with its addresses."""
        return interfaces(Machine())

    def mac(self, device: str) -> str | None:
        """Return the MAC of one of this machine's interfaces; None if it is unknown."""
        try:
            return Path("/sys/class/net", device, "address").read_text(encoding="ascii").strip()
        except OSError:
            return None

    def bridge(self, context: Context) -> str:
        """Return the provider's interface for the lab's network; empty if it has none."""
        network = context.provider.network()
        return network.interface if network else ""

    def filters(self) -> tuple[Ruleset, str] | None:
        """Return this machine's packet filter, parsed and as nft prints it; None if this user cannot read it."""
        try:
            ruleset, listing = run(["nft", "-j", "list", "ruleset"]), run(["nft", "-a", "list", "ruleset"])
            return (filters.parse(ruleset.out), listing.out) if ruleset.code == 0 else None
        except (ProviderError, ValueError):  # nft is not installed, or its output cannot be parsed
            return None

    def filters_arp(self) -> bool:
        """Return whether this machine's packet filter has tables for ARP, as far as this user can see."""
        try:
            return bool(run(["nft", "list", "tables", "arp"]).out.strip())
        except ProviderError:  # nft is not installed
            return False

    def filters_bridged(self) -> bool:
        """Return whether this machine's packet filter for IP also filters packets that its bridges forward."""
        try:
            return BRIDGED.read_text(encoding="ascii").strip() == "1"
        except OSError:  # the module br_netfilter is not loaded
            return False

    def fetch(
        self,
        hostname: str,
        address: Address,
        path: str = "/",
        port: int = http_probe.HTTP,
        *,
        tls: bool = False,
        seconds: float = NORMAL.http_answer,
    ) -> Exchange:
        """GET a path of a host at an address, timed part by part."""
        return exchange.fetch(hostname, address, path, port, tls=tls, seconds=seconds, limits=self._limits)

    def connection_to(self, hostname: str, address: Address) -> Connection:
        """Return a connection for consecutive requests for a host."""
        return Connection(hostname, address, limits=self._limits)


def _listed(line: list[str]) -> list[dict[str, Any]]:
    return list(json.loads(run(line).out or "[]"))
