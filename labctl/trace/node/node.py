"""The third hop: which node answers ARP for the address, and whether a connection succeeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from labctl.cluster import state
from labctl.host.arp import Neighbour, Route
from labctl.host.tcp_connect import CONNECTED, ConnectResult
from labctl.model.errors import LabError
from labctl.model.lab import Node
from labctl.trace.node import announcing, clocks, failed_connection, node_facts, static_entries
from labctl.trace.node.announcing import NOT_ANNOUNCED
from labctl.trace.node.failed_connection import arp_dropped
from labctl.trace.node.host_routes import host_command, require_direct
from labctl.trace.problem import BROKEN, UNKNOWN, WARNING, Evidence, ProblemError, kubectl, labctl
from labctl.trace.trail import Trail

MAKERS: Mapping[str, str] = {
    "02:42": "a container of a Docker Engine",
    "52:54:00": "a virtual machine of QEMU or libvirt",
    "08:00:27": "a virtual machine of VirtualBox",
    "0a:00:27": "a host-only interface of VirtualBox",
    "00:50:56": "a virtual machine of VMware",
    "00:0c:29": "a virtual machine of VMware",
    "00:15:5d": "a virtual machine of Hyper-V",
    "00:16:3e": "a virtual machine of Xen or a container of LXD",
}
"""The owner of an interface, by the beginning of its MAC."""
LOCAL_BIT = 2


def node(trail: Trail) -> Evidence:
    """Check that one node of the lab answers ARP for the address with its own MAC, and accepts connections at port 80."""
    address, client = trail.address, trail.client
    route = require_direct(trail, client.route(address))
    remembered = client.neighbour(address, route)
    fixed = remembered if remembered and remembered.is_permanent else None
    answers, macs, owners = _answers(trail, route, fixed)
    announced, unasked = _announced(trail)
    connection = _connection(trail) if macs or remembered or not answers else None
    evidence: Evidence = {
        "announced_by": announced,
        "not_asked": unasked,
        "answers_arp": [{"mac": mac, "node": owners.get(mac)} for mac in macs],
        "heard_by": "frames" if client.may_query_arp else "kernel",
        "remembered": {"mac": remembered.mac, "state": remembered.state} if remembered else None,
        "connection": {"outcome": connection.outcome, "reason": connection.reason} if connection else None,
        "route": f"dev {route.device} src {route.source}",
    }
    trail.evidence["node"] = evidence
    is_open = connection is not None and connection.outcome == CONNECTED
    if foreign := [mac for mac in macs if mac not in owners]:
        raise _address_taken(trail, foreign, evidence)
    right = macs or [mac for mac, name in owners.items() if announced in {name, None}]
    if fixed and right and fixed.mac not in right:
        raise _static_entry_elsewhere(trail, route, fixed, owners, right, evidence, is_open=is_open)
    macs = macs or ([fixed.mac] if right and fixed and not client.may_query_arp else [])
    if not macs and answers:
        raise _no_node_answers(trail, route, answers, evidence, remembered, is_open=is_open)
    names = [owners[mac] for mac in macs]
    if connection is not None and not is_open:
        raise _not_connected(trail, route, connection, names or [announced], evidence)
    problem = arp_dropped(trail, route, evidence, is_remembered=remembered is not None) if macs else None
    problem = problem or _announcer_differs(trail, names, announced, evidence)
    if problem := problem or failed_connection.affects_other_connections(trail, route, names, evidence):
        raise problem
    if not answers:
        raise _not_asked(trail, route, evidence)
    if problem := _clock_off(trail, evidence):
        raise problem
    return evidence


def _clock_off(trail: Trail, evidence: Evidence) -> ProblemError | None:
    try:
        return clocks.clock_problem(trail.context, trail.cluster, evidence)
    except LabError:
        return None  # the API does not answer, which is a finding of a later hop


def _query_arp(trail: Trail, route: Route) -> dict[IPv4Address, frozenset[str]]:
    """Return which MACs answer ARP for the address and for each node; empty if ARP cannot be sent.

    Without the right to send frames, ask only for running nodes: the kernel takes two seconds to give up on a node.
    """
    try:
        nodes = trail.lab.nodes if trail.client.may_query_arp else _running(trail)
        return trail.client.query_arp([trail.address, *(each.address for each in nodes)], route)
    except OSError:
        return {}


def _running(trail: Trail) -> Sequence[Node]:
    try:
        running = trail.context.provider.running()
    except LabError:  # the provider does not answer, so any node may be running
        return trail.lab.nodes
    return [each for each in trail.lab.nodes if each.name in running]


def _connection(trail: Trail) -> ConnectResult:
    """Connect to the address."""
    seconds = trail.left(trail.limits.trace_connect)
    return trail.client.connect([trail.address], seconds)[trail.address]


def _answers(
    trail: Trail, route: Route, fixed: Neighbour | None
) -> tuple[Mapping[IPv4Address, frozenset[str]], list[str], Mapping[str, str]]:
    """Return all ARP answers, the MACs that answer for the address, and the lab's nodes by their MACs.

    The provider identifies a node that does not answer for its own address. For an address with a permanent entry, the
    kernel sends no ARP request.
    """
    answers = _query_arp(trail, route)
    macs = [] if fixed and not trail.client.may_query_arp else sorted(answers.get(trail.address, ()))
    nodes = {each.name for each in trail.lab.nodes}
    owners = {mac: each.name for each in trail.lab.nodes for mac in answers.get(each.address, ())}
    others = {mac: trail.client.owner_of(mac, trail.context) for mac in macs if mac not in owners}
    known = {mac: who.rpartition(" ")[2] for mac, who in others.items()}
    return answers, macs, owners | {mac: name for mac, name in known.items() if name in nodes}


def _announced(trail: Trail) -> tuple[str | None, str | None]:
    """Return the node that MetalLB reports as announcing, or why the API does not answer."""
    controller = trail.controller
    try:
        announcing = state.announcing_nodes(trail.cluster)
    except LabError as error:
        return None, error.message
    return announcing.get((controller.namespace, controller.service)), None


def _not_asked(trail: Trail, route: Route, evidence: Evidence) -> ProblemError:
    return ProblemError(
        "arp-not-asked",
        f"ARP requests for {trail.address} on {route.device} fail, but a connection to it succeeds",
        evidence,
        fix="Check the packet filter and the interface of this machine.",
        commands=(),
        state=UNKNOWN,
    )


def _address_taken(trail: Trail, foreign: Sequence[str], evidence: Evidence) -> ProblemError:
    """Return a problem that names what else has the address, by its MAC and its bridge port."""
    owners = ", ".join(f"{mac} ({trail.client.owner_of(mac, trail.context) or _maker(mac)})" for mac in foreign)
    return ProblemError(
        "address-taken",
        f"{owners} answers ARP for {trail.address} but is not a node of the lab: the address is in use elsewhere",
        evidence,
        fix=f"Give it another address, or choose another pool than {trail.lab.pool} in labctl.yaml, then run "
        "`labctl up`.",
        commands=(),
    )


def _maker(mac: str) -> str:
    maker_name = next((maker for prefix, maker in MAKERS.items() if mac.startswith(prefix)), "")
    is_made_up = bool(int(mac[:2], 16) & LOCAL_BIT)
    return maker_name or (
        "an interface with a locally administered MAC, such as a container's" if is_made_up else "a physical machine"
    )


def _static_entry_elsewhere(
    trail: Trail,
    route: Route,
    fixed: Neighbour,
    owners: Mapping[str, str],
    right: Sequence[str],
    evidence: Evidence,
    *,
    is_open: bool,
) -> ProblemError:
    whose = owners.get(fixed.mac, "no node of the lab")
    others = " or ".join(f"{mac} ({owners[mac]})" if mac in owners else mac for mac in right)
    has = "answers ARP for it" if evidence["answers_arp"] else "is the lab's"
    return ProblemError(
        "neighbour-fixed",
        f"this machine has a {fixed.state.lower()} ARP entry for {trail.address} with {fixed.mac} ({whose}), but {others} {has}",
        evidence,
        fix="Remove the entry: the kernel then sends ARP requests again.",
        commands=(host_command(trail, "ip", "neigh", "del", str(trail.address), "dev", route.device),),
        state=WARNING if is_open else BROKEN,
    )


def _no_node_answers(
    trail: Trail,
    route: Route,
    answers: Mapping[IPv4Address, frozenset[str]],
    evidence: Evidence,
    remembered: Neighbour | None,
    *,
    is_open: bool,
) -> ProblemError:
    """Return why no node answers. A cached ARP entry still works, but only on this machine."""
    silence = f"no node announces {trail.address}"
    if is_open and remembered:
        silence += f"; only this machine still reaches it, at {remembered.mac}, until its ARP entry expires"
    silent = {each.name for each in trail.lab.nodes if not answers.get(each.address)}
    try:
        problem = announcing.not_announced(trail, evidence, silence, silent)
    except LabError as error:
        text = f"{silence}; the reason is unknown: {error.message}"
        problem = ProblemError(NOT_ANNOUNCED, text, evidence, fix=error.hint or None)
    if problem.cause == NOT_ANNOUNCED and not any(answers.values()):
        problem = failed_connection.no_node_reachable(trail, route, evidence)
    problem.state = WARNING if is_open else BROKEN
    return problem


def _not_connected(
    trail: Trail, route: Route, connection: ConnectResult, names: Sequence[str | None], evidence: Evidence
) -> ProblemError:
    """Return why a connection failed; if no reason is found and several nodes answer ARP, that is the reason."""
    problem = failed_connection.explain(trail, route, connection, names[0], evidence)
    answering = sorted({name for name in names if name})
    if problem.cause == failed_connection.NO_CONNECTION and len(answering) > 1:
        several = _several_nodes_answer(trail, answering, evidence)
        return several.within(f"{failed_connection.outcome(trail, connection)}; {several.text}", evidence)
    return problem


def _several_nodes_answer(trail: Trail, names: Sequence[str], evidence: Evidence) -> ProblemError:
    """Return the problem that several nodes answer ARP: with the address on an interface, a node needs no speaker."""
    text = f"{' and '.join(names)} answer ARP for {trail.address}: either may receive a request"
    own = [
        (name, device, str(each))
        for name in names
        for device, addresses in node_facts.interfaces(trail, name).items()
        for each in addresses
        if each.ip == trail.address
    ]
    nodes = [each for each in trail.lab.nodes if each.name in names]
    if not own and (problem := static_entries.between(trail, nodes)):
        # The speakers on these nodes cannot reach each other, so each of them announces the address.
        return problem.within(f"{text}; {problem.text}", evidence, WARNING)
    claims = "".join(f"; {name} has it on its interface {device}" for name, device, _ in own)
    removals = tuple(
        labctl(trail.lab.name, "ssh", name, "--", "sudo", "ip", "address", "del", each, "dev", device)
        for name, device, each in own
    )
    restart = kubectl(trail.lab.name, *announcing.RESTART)
    fix = (
        "Remove the address from the interface." if own else "Restart the speakers, so that they rediscover each other."
    )
    return ProblemError(
        "announced-twice", text + claims, evidence, fix=fix, commands=removals or (restart,), state=WARNING
    )


def _announcer_differs(
    trail: Trail, names: Sequence[str], announced: str | None, evidence: Evidence
) -> ProblemError | None:
    """Return a problem if several nodes answer, or another node than the one that MetalLB reports."""
    address, lab = trail.address, trail.lab.name
    if len(set(names)) > 1:
        return _several_nodes_answer(trail, sorted(set(names)), evidence)
    if announced is not None and names and announced not in names:
        return ProblemError(
            "announcer-differs",
            f"MetalLB reports that {announced} announces {address}, but {names[0]} answers ARP for it",
            evidence,
            fix="The address may be moving. If the problem remains, restart the speakers: they update the report.",
            commands=(kubectl(lab, *announcing.RESTART),),
            state=WARNING,
        )
    return None
