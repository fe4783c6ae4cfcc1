"""Find why no node of the lab is reachable, before any lab address is contacted."""

from __future__ import annotations

from labctl.context import Context
from labctl.model.lab import Node
from labctl.trace.probes.client import Client
from labctl.trace.problem import ProblemError, labctl


def stopped_engine(context: Context) -> ProblemError | None:
    """Return what is missing for an isolated lab's nodes to run: the namespace or the Docker Engine."""
    isolation, resume = context.isolation, (labctl(context.lab.name, "resume"),)
    if not context.isolated:
        return None
    if not isolation.exists():
        return ProblemError("namespace-gone", f"the network namespace {isolation.namespace} does not exist")
    if not isolation.engine_runs():
        text = "the lab's Docker Engine is not running"
        return ProblemError("engine-stopped", text, fix="Run `labctl resume` to start it.", commands=resume)
    return None


def missing_network(context: Context, client: Client) -> ProblemError | None:
    """Return why the lab's network is missing; None if this machine is in it, or only the route is missing.

    Without the network, packets to the lab's addresses would leave this machine.
    """
    if context.isolated and not context.isolation.exists():
        return stopped_engine(context)
    route = client.route(context.lab.control_plane.address)
    is_there = route is not None and not route.gateway
    return None if is_there else stopped_engine(context) or stopped_nodes(context)


def stopped_nodes(context: Context) -> ProblemError | None:
    """Return a problem if the control plane, or every node, is not running."""
    running = context.provider.running()
    if context.lab.control_plane.name in running:
        return None
    problem = not_running(context, context.lab.control_plane)
    return problem if running else problem.within(f"no node of the lab is running: {problem.text}", {})


def not_running(context: Context, node: Node) -> ProblemError:
    """Return the problem that a node is not running, with the reason and hint of its provider, if it has them."""
    failure = context.provider.failure(node)
    is_known = failure is not None and not failure.is_running
    text = failure.text if failure and is_known else f"node {node.name} is not running"
    fix = failure.hint if failure and is_known and failure.hint else "Run `labctl resume` to start it."
    return ProblemError("node-not-running", text, fix=fix, commands=(labctl(context.lab.name, "resume"),))
