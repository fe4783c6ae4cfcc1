"""Find nodes whose clock is off, which sooner or later makes their certificates, leases and logs wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from labctl.cluster import state
from labctl.context import Context
from labctl.providers import clock
from labctl.trace.problem import WARNING, Evidence, ProblemError

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

CAUSE = "clock-off"


def clock_problem(context: Context, cluster: Cluster, evidence: Evidence) -> ProblemError | None:
    """Return a problem if the clock of a node is off. Containers use this machine's clock."""
    if context.hypervisor.are_containers:
        return None
    limit = timedelta(seconds=context.lab.limits.trace_lease)
    now = datetime.now(UTC)
    suspected = {name for name, at in state.lease_times(cluster).items() if abs(now - at) > limit}
    suspected -= state.unready_nodes(cluster, context.lab).keys() if suspected else set()
    asked = [node for node in context.lab.nodes if node.name in suspected]
    seconds = context.lab.limits.trace_node
    ahead = {node.name: clock.offset(context.provider, node, seconds) for node in asked}
    off = {name: seconds for name, seconds in ahead.items() if seconds}
    if not off:
        return None
    text = ", ".join(f"the clock of {name} is {clock.offset_text(seconds)}" for name, seconds in off.items())
    return ProblemError(CAUSE, text, {**evidence, "clocks": off}, state=WARNING)
