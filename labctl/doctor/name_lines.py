"""Lines of the hosts file for the lab's hostnames: their owners, and whether browsers use their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labctl.context import Context
from labctl.host import lab_folder, other_addresses, resolver
from labctl.host.http_probe import Address
from labctl.host.interfaces import interfaces
from labctl.host.machine import Machine
from labctl.host.resolver import HostsLine
from labctl.host.tcp_connect import SILENT, ConnectResult
from labctl.model.lab import Lab

HOST_CONF = Path("/etc/host.conf")
MULTI = re.compile(r"^[ \t]*multi[ \t]+on\b", re.MULTILINE)
"""Without it, glibc returns only the address of a name's first line."""


@dataclass(frozen=True, slots=True)
class OtherLine:
    """A line that gives one of the lab's hostnames another address than the lab's."""

    line: HostsLine
    text: str
    is_blocking: bool
    """Whether browsers use its address instead of the lab's, or wait for it."""


def lines_with_other_addresses(context: Context, machine: Machine) -> list[OtherLine]:
    """Return the lines outside of labs' blocks that give one of the lab's hostnames another address.

    Before a new lab has a line, judge them as if its line followed them. Otherwise judge what the resolver returns now.
    """
    return [each for app in context.lab.apps for each in _other_lines(app.hostname, context, machine)]


def lab_lines(context: Context, machine: Machine) -> list[HostsLine]:
    """Return the lines of the lab's block that name one of its apps."""
    lab = context.lab
    return [line for app in lab.apps for line in _lines(app.hostname, context, machine) if line.block == lab.name]


def unresolved_hostnames(context: Context, machine: Machine) -> list[str]:
    """Return the hostnames of an existing lab that have no line and do not resolve to an address of the pool."""
    if machine.read(context.folder / lab_folder.RECORD) is None:
        return []
    without = [app.hostname for app in context.lab.apps if not _lines(app.hostname, context, machine)]
    return [name for name in without if not any(each in context.lab.pool for each in machine.resolve(name))]


def ignored_hostname(context: Context, machine: Machine) -> str | None:
    """Return a hostname whose lines the resolver ignores, empty if there is none; None if that is unknown."""
    if not machine.resolver_reads(context.lab.hosts_file):
        return None
    lines = {app.hostname: _lines(app.hostname, context, machine) for app in context.lab.apps}
    named = {name: {line.address for line in each} for name, each in lines.items() if _lab_address(each, context.lab)}
    return next((name for name, each in named.items() if each.isdisjoint(machine.resolve(name))), "") if named else None


def _other_lines(hostname: str, context: Context, machine: Machine) -> Iterator[OtherLine]:
    lab, lines = context.lab, _lines(hostname, context, machine)
    right = _lab_address(lines, lab)
    foreign = [line for line in lines if line.block is None and line.address != right]
    is_made = machine.read(context.folder / lab_folder.RECORD) is not None
    addresses = machine.resolve(hostname) if foreign and (right or is_made) else ()
    is_single = machine.platform == "linux" and not MULTI.search(machine.read(HOST_CONF) or "")
    connect = partial(_connect, context, machine)
    wrong_addresses = other_addresses.find(addresses, lines, right, connect) if right in addresses else []
    for each in wrong_addresses or other_addresses.from_lines(foreign, connect):
        if each.line is None or each.line.block is not None:
            continue
        is_alone = right not in addresses and (each.address in addresses or (not addresses and not right and is_single))
        course = (
            f"and the resolver does not return {right or 'an address of the lab'}"
            if is_alone
            else each.browser_behaviour(str(right or "the lab's address"))
        )
        text = f"line {each.line.number} gives {hostname} the address {each.address}, {course}"
        yield OtherLine(each.line, text, is_alone or each.affects_browsers)


def _lines(hostname: str, context: Context, machine: Machine) -> tuple[HostsLine, ...]:
    return resolver.hosts_lines((machine.read(context.lab.hosts_file) or "").encode(), hostname)


def _lab_address(lines: Sequence[HostsLine], lab: Lab) -> Address | None:
    """Return the lab's address, from labctl's own lines or else from those of the user; None if none is in the pool."""
    own = [line for line in lines if line.block == lab.name]
    users = [line for line in lines if line.block is None]
    return next((line.address for line in own or users if line.address in lab.pool), None)


def _connect(context: Context, machine: Machine, addresses: Sequence[Address]) -> Mapping[Address, ConnectResult]:
    """Try to connect to addresses. If this machine is not in the lab's network, count those in it as silent."""
    near = [each.network for link in interfaces(machine) if link.is_up for each in link.addresses]
    away = {each for each in addresses if each in context.lab.network and not any(each in network for network in near)}
    contacted = [each for each in addresses if each not in away]
    results = machine.connect(contacted, other_addresses.CONNECT_SECONDS) if contacted else {}
    return {**results, **dict.fromkeys(away, ConnectResult(SILENT, "this machine is not in its network"))}
