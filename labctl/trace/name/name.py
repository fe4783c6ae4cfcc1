"""The first hop: which address the hostname resolves to on this machine, and by which line of which file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from labctl.cluster import state
from labctl.host import other_addresses
from labctl.host.http_probe import Address
from labctl.host.other_addresses import CONNECT_SECONDS, DOUBLED, SHADOWED, OtherAddress
from labctl.host.resolver import RESOLVE_SECONDS, HostsLine
from labctl.host.tcp_connect import ConnectResult
from labctl.model.errors import LabError
from labctl.trace.name import absence, further_problems, hosts_edits, served
from labctl.trace.problem import BROKEN, WARNING, Evidence, ProblemError, labctl
from labctl.trace.trail import Trail

MILLI = 1000


def name(trail: Trail) -> Evidence:
    """Check that the name resolves to only the ingress controller's address; report the line that it comes from."""
    addresses, seconds = trail.client.resolve(trail.hostname)
    wanted = trail.controllers_address()
    if not served.is_served(trail):
        raise served.unserved_hostname(trail, addresses)
    if not addresses:
        raise absence.absent_name(trail, wanted, is_silent=seconds >= RESOLVE_SECONDS)
    right = wanted or next((each for each in addresses if each in trail.lab.pool), None)
    address = right if right in addresses else addresses[0]
    evidence: Evidence = {
        "address": str(address),
        "source": _source(trail, trail.client.hosts_line(trail.hostname, address)),
        "milliseconds": round(seconds * MILLI, 1),
        "others": [],
    }
    if right is None and not _is_api_away(trail):
        return evidence  # the next hop reports why there is no address
    others = _others(trail, addresses, right)
    evidence["others"] = [_described(trail, each) for each in others]
    if right not in addresses:
        raise _wrong_address(trail, others, wanted, evidence)
    problem = _other_addresses_problem(trail, others, right, evidence) if right and others else None
    if problem is None or problem.state == WARNING:
        problem = (
            further_problems.damaged_hosts_file(trail, evidence)
            or problem
            or further_problems.further_problem(trail, evidence)
        )
    if problem:
        raise problem
    return evidence


def _is_api_away(trail: Trail) -> bool:
    controller = trail.controller
    try:
        state.load_balancer_address(trail.cluster, controller.namespace, controller.service)
    except LabError:
        return True
    return False


def _others(trail: Trail, addresses: Sequence[Address], right: Address | None) -> list[OtherAddress]:
    """Return the wrong addresses, with the outcome of a connection to those that browsers try before the right one."""

    def connect(first: Sequence[Address]) -> Mapping[Address, ConnectResult]:
        return trail.client.connect(first, trail.left(CONNECT_SECONDS))

    return other_addresses.find(addresses, trail.client.hosts_lines(trail.hostname), right, connect)


def _described(trail: Trail, other: OtherAddress) -> Evidence:
    return {
        "address": str(other.address),
        "source": _source(trail, other.line),
        "connection": other.connection.outcome if other.connection else None,
    }


def _source(trail: Trail, line: HostsLine | None) -> str:
    if line is None:
        return "the system's resolver; no line of the hosts file says so"
    return f"{trail.hosts}, line {line.number}: {line.text}"


def _wrong_address(
    trail: Trail, others: Sequence[OtherAddress], wanted: IPv4Address | None, evidence: Evidence
) -> ProblemError:
    """Return the problem that the name does not resolve to the right address."""
    first = others[0]
    line = first.line
    right = f"the ingress controller has {wanted}" if wanted else f"the lab has {trail.lab.pool}"
    if wanted and line is None and trail.client.hosts_line(trail.hostname, wanted):
        return absence.unread_hosts_file(trail, f"the system's resolver returns {first.address}", evidence)
    cause, where = _cause(trail, first, SHADOWED), _where(trail, first)
    return ProblemError(
        cause,
        f"{where} resolves {trail.hostname} to {first.address}; {right}",
        evidence,
        fix=_fix(trail, first, wanted),
        commands=_commands(trail, cause, others, wanted),
    )


def _other_addresses_problem(
    trail: Trail, others: Sequence[OtherAddress], right: Address, evidence: Evidence
) -> ProblemError:
    """Return the problem that the name also resolves to other addresses."""
    blocking = [each for each in others if each.affects_browsers]
    first = (blocking or [each for each in others if each.connection] or list(others))[0]
    cause = _cause(trail, first, SHADOWED if blocking else DOUBLED)
    wanted = IPv4Address(right)
    return ProblemError(
        cause,
        f"{_where(trail, first)} resolves {trail.hostname} to {first.address}, {first.browser_behaviour(str(right))}",
        evidence,
        fix=_fix(trail, first, wanted),
        commands=_commands(trail, cause, others, wanted),
        state=BROKEN if blocking else WARNING,
    )


def _cause(trail: Trail, other: OtherAddress, of_users_line: str) -> str:
    line = other.line
    if line is None:
        return "name-resolves-elsewhere"
    if line.block is None:
        return of_users_line
    if line.block != trail.lab.name:
        return "hosts-entry-of-another-lab"
    return "hosts-entry-outdated"


def _where(trail: Trail, other: OtherAddress) -> str:
    line = other.line
    if line is None:
        return "the system's resolver"
    owner = {None: "", trail.lab.name: ", in labctl's block,"}.get(line.block, f", which is lab {line.block}'s,")
    return f"line {line.number} of {trail.hosts}{owner}"


def _fix(trail: Trail, other: OtherAddress, wanted: IPv4Address | None) -> str:
    line = other.line
    if line is None:
        return f"Add the line `{wanted or 'ADDRESS'} {trail.hostname}` to {trail.hosts}: it takes precedence."
    if line.block is None:
        return f"Remove the name {trail.hostname} from line {line.number} of {trail.hosts}: {line.text}"
    if line.block == trail.lab.name:
        return "Run `labctl hosts sync` to write the right address."
    return (
        f"Two labs cannot share a hostname on this machine. Give the app of {trail.lab.name} another `hostname`, or run "
        f"`{labctl(line.block, 'hosts', 'remove')}`, which removes all names of {line.block} from the file."
    )


def _commands(trail: Trail, cause: str, others: Sequence[OtherAddress], wanted: IPv4Address | None) -> tuple[str, ...]:
    """Return the commands that fix the name; none if only the users of another lab can decide."""
    if cause == "hosts-entry-of-another-lab":
        return ()
    addresses = {each.address for each in others} | {each.line.address for each in others if each.line}
    lines = [line for line in trail.client.hosts_lines(trail.hostname) if line.address in addresses]
    if wanted is None:
        return (*hosts_edits.removal_command(trail, lines), labctl(trail.lab.name, "up"))
    edits = hosts_edits.resolve_commands(trail, wanted, lines)
    return edits if all(each.line for each in others) else (*edits, *absence.files_first_command(trail))
