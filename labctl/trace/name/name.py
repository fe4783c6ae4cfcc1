"""The first hop: which address the hostname resolves to on this machine, and which line of which file says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from labctl.cluster import state
from labctl.host.http_probe import HTTP, Address
from labctl.model.errors import LabError
from labctl.trace.name import absence, hosts_edits, served, surroundings
from labctl.trace.probes.client import RESOLVE_SECONDS, HostsLine
from labctl.trace.probes.knock import CONNECTED, REFUSED, SILENT, Knock
from labctl.trace.problem import BROKEN, WARNING, Evidence, ProblemError, labctl
from labctl.trace.trail import Trail

MILLI = 1000
KNOCK_SECONDS = 1.0
"""TCP retransmits a first packet after one second: an address that has not answered by then delays a browser."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Describe an address that the name resolves to and that is not the lab's."""

    address: Address
    line: HostsLine | None
    """None if it is not in the hosts file."""
    knock: Knock | None
    """None if browsers try the lab's address first."""

    @property
    def keeps_browsers(self) -> bool:
        """Return whether a browser uses this address, or waits for it.

        A silent IPv6 address delays a browser by 0.3 s, after which it also tries an IPv4 address.
        """
        if self.knock is None or self.knock.outcome == REFUSED:
            return False
        return self.knock.outcome == CONNECTED or isinstance(self.address, IPv4Address)


def name(trail: Trail) -> Evidence:
    """Check that the name resolves to the ingress controller's address alone, and by which line of which file."""
    addresses, seconds = trail.client.resolve(trail.hostname)
    wanted = trail.controllers_address()
    if not served.is_served(trail):
        raise served.unserved(trail, addresses)
    if not addresses:
        raise absence.absent(trail, wanted, is_silent=seconds >= RESOLVE_SECONDS)
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
    strangers = _strangers(trail, addresses, right)
    evidence["others"] = [_described(trail, each) for each in strangers]
    if right not in addresses:
        raise _misled(trail, strangers, wanted, evidence)
    problem = _beside(trail, strangers, right, evidence) if right and strangers else None
    if problem is None or problem.state == WARNING:
        problem = surroundings.damaged(trail, evidence) or problem or surroundings.doubt(trail, evidence)
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


def _strangers(trail: Trail, addresses: Sequence[Address], right: Address | None) -> list[Stranger]:
    """Return the wrong addresses; those that browsers try before the right one with the outcome of a connection.

    A name server rotates its addresses, so any of them may come first. Lines that the resolver ignores, as glibc does
    without `multi on`, count for programs that read the file themselves.
    """
    lines: dict[Address, HostsLine | None] = {each: trail.client.hosts_line(trail.hostname, each) for each in addresses}
    first: list[Address] = []
    if right in addresses:
        place = addresses.index(right)
        first = [
            each for number, each in enumerate(addresses) if number < place or (number > place and lines[each] is None)
        ]
        for line in trail.client.hosts_lines(trail.hostname):
            lines.setdefault(line.address, line)
    knocks = trail.client.knock(first, trail.left(KNOCK_SECONDS)) if first else {}
    return [Stranger(each, line, knocks.get(each)) for each, line in lines.items() if each != right]


def _described(trail: Trail, stranger: Stranger) -> Evidence:
    return {
        "address": str(stranger.address),
        "source": _source(trail, stranger.line),
        "connection": stranger.knock.outcome if stranger.knock else None,
    }


def _source(trail: Trail, line: HostsLine | None) -> str:
    if line is None:
        return "the system's resolver; no line of the hosts file says so"
    return f"{trail.hosts}, line {line.number}: {line.text}"


def _misled(
    trail: Trail, strangers: Sequence[Stranger], wanted: IPv4Address | None, evidence: Evidence
) -> ProblemError:
    """Return the problem of a name that does not resolve to the right address."""
    first = strangers[0]
    line = first.line
    right = f"the ingress controller has {wanted}" if wanted else f"the lab has {trail.lab.pool}"
    if wanted and line is None and trail.client.hosts_line(trail.hostname, wanted):
        return absence.unread(trail, f"the system's resolver returns {first.address}", evidence)
    cause, where = _cause(trail, first, "hosts-entry-shadowed"), _where(trail, first)
    return ProblemError(
        cause,
        f"{where} resolves {trail.hostname} to {first.address}; {right}",
        evidence,
        fix=_fix(trail, first, wanted),
        commands=_commands(trail, cause, strangers, wanted),
    )


def _beside(trail: Trail, strangers: Sequence[Stranger], right: Address, evidence: Evidence) -> ProblemError:
    """Return the problem of a name that resolves to other addresses besides the right one."""
    blocking = [each for each in strangers if each.keeps_browsers]
    first = (blocking or [each for each in strangers if each.knock] or list(strangers))[0]
    cause = _cause(trail, first, "hosts-entry-shadowed" if blocking else "hosts-entry-doubled")
    wanted = IPv4Address(right)
    return ProblemError(
        cause,
        f"{_where(trail, first)} resolves {trail.hostname} to {first.address}, {_course(first, wanted)}",
        evidence,
        fix=_fix(trail, first, wanted),
        commands=_commands(trail, cause, strangers, wanted),
        state=BROKEN if blocking else WARNING,
    )


def _course(stranger: Stranger, right: IPv4Address) -> str:
    """Return, as text, what browsers do with a wrong address."""
    knock = stranger.knock
    if knock is None:
        return f"which browsers try after {right}; this order may change"
    if knock.outcome == CONNECTED:
        return f"which browsers try before {right}: another server accepts connections there, on port {HTTP}"
    if knock.outcome == SILENT:
        waits = "for 0.3 s" if isinstance(stranger.address, IPv6Address) else "until it gives up"
        return f"which browsers try before {right}: it does not answer, and a browser waits {waits}"
    return (
        f"which browsers try before {right}: it does not accept connections ({knock.reason}), so they try the next one"
    )


def _cause(trail: Trail, stranger: Stranger, of_users_line: str) -> str:
    line = stranger.line
    if line is None:
        return "name-resolves-elsewhere"
    if line.block is None:
        return of_users_line
    if line.block != trail.lab.name:
        return "hosts-entry-of-another-lab"
    return "hosts-entry-outdated"


def _where(trail: Trail, stranger: Stranger) -> str:
    line = stranger.line
    if line is None:
        return "the system's resolver"
    owner = {None: "", trail.lab.name: ", in labctl's block,"}.get(line.block, f", which is lab {line.block}'s,")
    return f"line {line.number} of {trail.hosts}{owner}"


def _fix(trail: Trail, stranger: Stranger, wanted: IPv4Address | None) -> str:
    line = stranger.line
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


def _commands(trail: Trail, cause: str, strangers: Sequence[Stranger], wanted: IPv4Address | None) -> tuple[str, ...]:
    """Return the commands that fix the name; none if only the users of another lab can decide."""
    if cause == "hosts-entry-of-another-lab":
        return ()
    addresses = {each.address for each in strangers} | {each.line.address for each in strangers if each.line}
    lines = [line for line in trail.client.hosts_lines(trail.hostname) if line.address in addresses]
    if wanted is None:
        return (*hosts_edits.without(trail, lines), labctl(trail.lab.name, "up"))
    edits = hosts_edits.leading_to(trail, wanted, lines)
    return edits if all(each.line for each in strangers) else (*edits, *absence.files_first(trail))
