"""The hop to the node: who answers for the address on this machine's network, and whether a connection gets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from labctl.cluster import state
from labctl.host.arp import Neighbour, Route
from labctl.model.errors import LabError
from labctl.trace.node import announcing, node_facts, unopened
from labctl.trace.node.ways import here, require_direct
from labctl.trace.probes.knock import CONNECTED
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
"""Who makes interfaces with MACs that begin like this."""
LOCAL_BIT = 2
CONNECT_SECONDS = 1.4
"""The first packet is sent again after one second: a lab answers in a millisecond."""


def node(trail: Trail) -> Evidence:
    """Check that one node of the lab answers ARP for the address with its own MAC, and accepts connections at port 80."""
    asked, client = trail.address, trail.client
    route = require_direct(trail, client.route(asked))
    remembered = client.neighbour(asked, route)
    heard = _heard(trail, route)
    owners = {mac: each.name for each in trail.lab.nodes for mac in heard.get(each.address, ())}
    macs = sorted(heard.get(asked, ()))
    announced, unasked = _announced(trail)
    connection = client.knock([asked], trail.left(CONNECT_SECONDS))[asked] if macs or remembered or not heard else None
    evidence: Evidence = {
        "announced_by": announced,
        "not_asked": unasked,
        "answers_arp": [{"mac": mac, "node": owners.get(mac)} for mac in macs],
        "heard_by": "frames" if client.may_ask_arp else "kernel",
        "remembered": {"mac": remembered.mac, "state": remembered.state} if remembered else None,
        "connection": {"outcome": connection.outcome, "reason": connection.reason} if connection else None,
        "route": f"dev {route.device} src {route.source}",
    }
    trail.seen["node"] = evidence
    is_open = connection is not None and connection.outcome == CONNECTED
    if foreign := [mac for mac in macs if mac not in owners]:
        raise _taken(trail, foreign, evidence)
    if remembered and remembered.is_permanent and macs and remembered.mac not in macs:
        raise _fixed_elsewhere(trail, route, remembered, owners, evidence, is_open=is_open)
    if not macs and heard:
        raise _silent(trail, evidence, remembered, is_open=is_open)
    names = [owners[mac] for mac in macs]
    if connection is not None and not is_open:
        raise unopened.why(trail, route, connection, next(iter(names), announced), evidence)
    if problem := _differs(trail, names, announced, evidence) or unopened.endangered(trail, route, names, evidence):
        raise problem
    if not heard:
        raise _not_asked(trail, route, evidence)
    return evidence


def _heard(trail: Trail, route: Route) -> dict[IPv4Address, frozenset[str]]:
    """Return who answers ARP for the address and for each node; nothing where the network cannot be asked."""
    try:
        return trail.client.ask_arp([trail.address, *(each.address for each in trail.lab.nodes)], route)
    except OSError:
        return {}


def _announced(trail: Trail) -> tuple[str | None, str | None]:
    """Return whom MetalLB has on record, or why it cannot be asked."""
    controller = trail.controller
    try:
        announcing = state.announcing_nodes(trail.cluster)
    except LabError as error:
        return None, error.message
    return announcing.get((controller.namespace, controller.service)), None


def _not_asked(trail: Trail, route: Route, evidence: Evidence) -> ProblemError:
    return ProblemError(
        "arp-not-asked",
        f"who has {trail.address} cannot be asked on {route.device}; a connection to it works",
        evidence,
        fix="A packet filter or the interface keeps this machine from asking.",
        commands=(),
        state=UNKNOWN,
    )


def _taken(trail: Trail, foreign: Sequence[str], evidence: Evidence) -> ProblemError:
    """Return who else has the address: what its MAC and the bridge that it is on tell of it."""
    owners = ", ".join(f"{mac} ({trail.client.owner_of(mac, trail.context) or _maker(mac)})" for mac in foreign)
    return ProblemError(
        "address-taken",
        f"{owners} answers ARP for {trail.address}, and is no node of the lab: something else has this address",
        evidence,
        fix=f"Give it another address, or choose another pool than {trail.lab.pool} in labctl.yaml and run "
        "`labctl up`.",
        commands=(),
    )


def _maker(mac: str) -> str:
    maker_name = next((maker for prefix, maker in MAKERS.items() if mac.startswith(prefix)), "")
    is_made_up = bool(int(mac[:2], 16) & LOCAL_BIT)
    return maker_name or (
        "an interface with a made-up MAC, as containers have" if is_made_up else "a machine of its own"
    )


def _fixed_elsewhere(
    trail: Trail,
    route: Route,
    remembered: Neighbour,
    owners: Mapping[str, str],
    evidence: Evidence,
    *,
    is_open: bool,
) -> ProblemError:
    right = ", ".join(each["mac"] for each in evidence["answers_arp"])
    whose = owners.get(remembered.mac, "no node of the lab")
    return ProblemError(
        "neighbour-fixed",
        f"this machine has a {remembered.state.lower()} entry that {trail.address} is at {remembered.mac} ({whose}), "
        f"and {right} answers ARP for it",
        evidence,
        fix="Take the entry away: the kernel asks then.",
        commands=(here(trail, "ip", "neigh", "del", str(trail.address), "dev", route.device),),
        state=WARNING if is_open else BROKEN,
    )


def _silent(trail: Trail, evidence: Evidence, remembered: Neighbour | None, *, is_open: bool) -> ProblemError:
    """Return why nobody answers. What the kernel remembers still works, from this machine alone."""
    silence = f"no node announces {trail.address}"
    if is_open and remembered:
        silence += f"; this machine alone still reaches it, at {remembered.mac}, until the kernel forgets"
    try:
        problem = announcing.unannounced(trail, evidence, silence)
    except LabError as error:
        text = f"{silence}; why cannot be said: {error.message}"
        problem = ProblemError("address-not-announced", text, evidence, fix=error.hint or None)
    problem.state = WARNING if is_open else BROKEN
    return problem


def _twice(trail: Trail, names: Sequence[str], evidence: Evidence) -> ProblemError:
    """Return that several nodes answer: one that has the address on an interface does so without its speaker."""
    text = f"{' and '.join(names)} answer ARP for {trail.address}: which of them gets a request is chance"
    own = {
        name: device
        for name in names
        for device, addresses in node_facts.interfaces(trail, name).items()
        if str(trail.address) in addresses
    }
    claims = "".join(f"; {name} has it on its interface {device}" for name, device in own.items())
    removals = tuple(
        labctl(trail.lab.name, "ssh", name, "--", "sudo", "ip", "address", "del", f"{trail.address}/32", "dev", device)
        for name, device in own.items()
    )
    restart = kubectl(trail.lab.name, *announcing.RESTART)
    fix = "Take the address from the interface." if own else "Restart the speakers: they find each other anew."
    return ProblemError(
        "announced-twice", text + claims, evidence, fix=fix, commands=removals or (restart,), state=WARNING
    )


def _differs(trail: Trail, names: Sequence[str], announced: str | None, evidence: Evidence) -> ProblemError | None:
    """Return what is odd about those who answer, while connections get through."""
    asked, lab = trail.address, trail.lab.name
    if len(set(names)) > 1:
        return _twice(trail, sorted(set(names)), evidence)
    if announced is not None and names and announced not in names:
        return ProblemError(
            "announcer-differs",
            f"MetalLB says that {announced} announces {asked}, and {', '.join(names)} answers ARP for it",
            evidence,
            fix="The address may be moving. If it stays so, restart the speakers: they record anew who announces.",
            commands=(kubectl(lab, *announcing.RESTART),),
            state=WARNING,
        )
    return None
