"""Wait for the nodes to form a cluster; stop waiting as soon as one has failed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from labctl.cluster import state
from labctl.context import Context
from labctl.host.known_failures import recognise
from labctl.host.process import run
from labctl.host.wait import NOT_READY, Pending, pending_while_unready, throttled, until
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Node
from labctl.providers.protocol import ASSEMBLY, last_log_lines

TASKS = ("sudo", "ctr", "--namespace=k8s.io", "tasks", "list", "--quiet")
ASSEMBLED = ("systemctl", "is-active", "labctl-node")
NO_CONNECTION = 255
"""ssh's exit code if it could not run the command."""

SILENT = " It has no log. Run `labctl doctor` to check limits such as fs.inotify.max_user_instances."


def await_nodes(context: Context, report: Progress) -> None:
    """Wait until the API answers, every node is Ready, and its pods' status is newer than its start.

    Raises ProviderError `node-exited` as soon as a node is not running, NotReadyError `node-not-assembled` as
    soon as one has failed to join, and `node-not-ready` on timeout; each with the node's last log lines.
    """
    control_plane = context.lab.control_plane

    def unready_node() -> Node:
        reasons = state.unready_nodes(context.cluster, context.lab)
        return next((node for node in context.lab.nodes if node.name in reasons), control_plane)

    report("waiting for the Kubernetes API")
    has_assembled = throttled(partial(_has_assembled, context, control_plane), context.lab.limits.node_check)
    _await(
        context,
        partial(_wait_for_api, context, has_assembled),
        f"the API server at {context.lab.api_server}",
        context.lab.limits.api,
        lambda: control_plane,
    )
    limit = context.lab.limits.nodes
    _await(context, partial(_nodes_ready, context, report), "the cluster", limit, unready_node)


def _wait_for_api(context: Context, has_assembled: Callable[[], bool | None]) -> Pending | None:
    """Return None once the API is up. If the node has joined since its boot, a silent API does not recover."""
    result = pending_while_unready(context.cluster.is_up)
    if not isinstance(result, Pending) or not has_assembled():
        return result
    hint = f"`labctl --name {context.lab.name} halt`, then `labctl --name {context.lab.name} resume`, restarts it."
    return Pending(f"it no longer answers: {result.reason}", "api-unreachable", hint, context.lab.limits.api_silent)


def _has_assembled(context: Context, node: Node) -> bool:
    """Return whether the node has joined since it booted; False if it cannot be reached."""
    try:
        result = run(context.provider.command(node, ASSEMBLED), timeout=context.lab.limits.node_command)
    except ProviderError:
        return False
    return result.out.strip() == "active"


def _await(
    context: Context, look: Callable[[], Pending | None], what: str, timeout: float, late: Callable[[], Node]
) -> None:
    """Wait until `look` returns None. `late` returns the node whose log to show on timeout."""
    refuse = throttled(partial(_refuse_to_wait, context), context.lab.limits.node_check)

    def looked() -> Pending | None:
        refuse()
        return look()

    try:
        until(looked, what=what, timeout=timeout, interval=context.lab.limits.poll)
    except NotReadyError as error:
        if error.id != NOT_READY:
            raise
        raise _with_log(context, late(), "node-not-ready", error) from error


def _refuse_to_wait(context: Context) -> None:
    """Check that every node may still become Ready. Raises ProviderError or NotReadyError."""
    for node in context.lab.nodes:
        failure = context.provider.failure(node)
        if failure is None:
            continue
        if failure.is_running:
            raise _with_log(context, node, "node-not-assembled", NotReadyError(failure.text, id=NOT_READY))
        lines = last_log_lines(context.provider.collect_logs(node, (ASSEMBLY,)))
        exited = ProviderError(
            failure.text,
            id="node-exited",
            hint="Run `labctl up` to start it again. To recreate it, run `labctl destroy`, then `labctl up`."
            + ("" if lines else SILENT),
            details=tuple(f"{node.name}: {line}" for line in lines),
        )
        exited.hint = failure.hint or exited.hint
        known = recognise(exited, "\n".join(lines), node=node.name)
        raise (
            known
            if known is exited
            else ProviderError(
                f"{exited.message}: {known.message}", id=exited.id, hint=known.hint, details=exited.details
            )
        )


def _nodes_ready(context: Context, report: Progress) -> Pending | None:
    reasons = pending_while_unready(lambda: state.unready_nodes(context.cluster, context.lab))
    if isinstance(reasons, Pending):
        return reasons
    if not reasons:
        return pending_while_unready(partial(_fresh_pod_status, context))
    report(f"waiting for {', '.join(reasons)}")
    return Pending("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


def _fresh_pod_status(context: Context) -> Pending | None:
    """Return None once the pods' status in the API is newer than the nodes' start."""
    for node in context.lab.nodes:
        said = state.ready_containers(context.cluster, node.name)
        tasks = _tasks(context, node) if said else None
        if tasks is not None and (ended := [pod for pod, containers in said.items() if not containers <= tasks]):
            return Pending(f"{node.name}: its kubelet has not reported yet that {', '.join(ended)} ended")
    return None


def _tasks(context: Context, node: Node) -> set[str] | None:
    """Return the ids of the node's running containers; None if the node cannot be reached."""
    try:
        listed = run(context.provider.command(node, TASKS), timeout=context.lab.limits.node_command)
    except ProviderError:
        return None
    return None if listed.code == NO_CONNECTION else set(listed.out.split())


def _with_log(context: Context, node: Node, identity: str, error: NotReadyError) -> NotReadyError:
    """Return the error with the node's last log lines, and with a known failure that they match."""
    lines = last_log_lines(context.provider.collect_logs(node, (ASSEMBLY,)))
    unready = NotReadyError(
        error.message,
        id=identity,
        hint=f"For details, run `labctl ssh {node.name} -- sudo journalctl -u labctl-node -u kubelet`.",
        details=tuple(f"{node.name}: {line}" for line in lines),
    )
    return recognise(unready, "\n".join(lines), node=node.name)
