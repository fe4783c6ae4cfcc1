"""Find why nodes do not find each other: static ARP entries with a wrong MAC, and rules that drop ARP packets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from labctl.model.lab import Node
from labctl.trace.node import node_facts
from labctl.trace.node.attempt import node_command
from labctl.trace.node.forwarding import arp_dropped
from labctl.trace.node.node_facts import NodeFacts
from labctl.trace.problem import ProblemError
from labctl.trace.trail import Trail


def between(trail: Trail, nodes: Sequence[Node]) -> ProblemError | None:
    """Return a problem if one of these nodes has a wrong static ARP entry for another of them, or drops its ARP packets."""
    all_facts = {each.name: node_facts.query_forwarding(trail, each, ()) for each in nodes}
    pairs = ((all_facts[near.name], far) for near, far in permutations(nodes, 2))
    problems = (
        check_entry(trail, facts, far) or arp_dropped(trail, facts, far.address) for facts, far in pairs if facts
    )
    return next(filter(None, problems), None)


def check_entry(trail: Trail, facts: NodeFacts, other: Node) -> ProblemError | None:
    """Return a problem if a node has a static ARP entry for another node with a MAC that is not the other's."""
    fixed, route = facts.fixed_mac(other.address), trail.client.route(other.address)
    if fixed is None or route is None:
        return None
    try:
        macs = trail.client.query_arp([other.address], route).get(other.address, frozenset())
    except OSError:  # this machine cannot send ARP requests
        return None
    if not macs or fixed in macs:
        return None
    node = facts.node
    return ProblemError(
        "neighbour-fixed",
        f"{node.name} has a static ARP entry for {other.name}, {other.address}, with {fixed}, but its MAC is "
        f"{' or '.join(sorted(macs))}",
        fix="Remove the entry: the kernel then sends ARP requests again.",
        commands=(node_command(trail, node, "ip", "neigh", "del", str(other.address), "dev", facts.device),),
    )
