"""Why no node of the lab can take a request: what there is to say before a lab address is asked for anything."""

from __future__ import annotations

from labctl.context import Context
from labctl.trace.probes.client import Client
from labctl.trace.problem import ProblemError, labctl


def engine(context: Context) -> ProblemError | None:
    """Return what an isolated lab lacks for a node to run at all."""
    isolation, resume = context.isolation, (labctl(context.lab.name, "resume"),)
    if not context.isolated:
        return None
    if not isolation.exists():
        return ProblemError("namespace-gone", f"the network namespace {isolation.namespace} is gone")
    if not isolation.engine_runs():
        text = "the lab's Docker Engine does not run: halted, or ended"
        return ProblemError("engine-stopped", text, fix="`labctl resume` starts it.", commands=resume)
    return None


def network(context: Context, client: Client) -> ProblemError | None:
    """Return why the lab's network is not there; None where this machine is in it, or it is only the way that is missing.

    Without it, the lab's addresses would be asked for elsewhere.
    """
    if context.isolated and not context.isolation.exists():
        return engine(context)
    route = client.route(context.lab.control_plane.address)
    is_there = route is not None and not route.gateway
    return None if is_there else engine(context) or nodes(context)


def nodes(context: Context) -> ProblemError | None:
    """Return that the control plane does not run, or no node does; None where it runs."""
    running = context.provider.running()
    if context.lab.control_plane.name in running:
        return None
    who = f"node {context.lab.control_plane.name} does not run" if running else "no node of the lab runs"
    resume = (labctl(context.lab.name, "resume"),)
    return ProblemError("node-not-running", who, fix="`labctl resume` starts it.", commands=resume)
