"""Waiting for the nodes to assemble themselves into a cluster; one that has given up is not waited for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from labctl.cluster import state
from labctl.context import Context
from labctl.host.known_failures import recognised
from labctl.host.process import run
from labctl.host.wait import NOT_READY, Pending, pending_while_unready, seldom, until
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Node
from labctl.providers.protocol import ASSEMBLY, last_words

API_SECONDS = 180.0
NODES_SECONDS = 180.0
LOOK_SECONDS = 3.0
"""How often to see that every node still runs and has not given up; each look starts programs."""
ASK_SECONDS = 5.0
TASKS = ("sudo", "ctr", "--namespace=k8s.io", "tasks", "list", "--quiet")
ASSEMBLED = ("systemctl", "is-active", "labctl-node")
FALLEN_SECONDS = 30.0
"""How long an API server that has fallen silent is waited for: the kubelet starts one that ended within seconds."""
NO_CONNECTION = 255
"""ssh's own exit code, where it did not get to run the command."""

SILENT = (
    " It wrote nothing; `labctl doctor` says whether a limit such as fs.inotify.max_user_instances is too low for it."
)


def await_nodes(context: Context, report: Progress) -> None:
    """Return once the API answers, every node is Ready, and what is said of its pods is from after its start.

    Raises ProviderError `node-exited` as soon as a node does not run any more, NotReadyError `node-not-assembled` as
    soon as one has failed to assemble itself, and `node-not-ready` when the time is up; each with the node's last lines.
    """
    control_plane = context.lab.control_plane

    def unready_node() -> Node:
        reasons = state.unready_nodes(context.cluster, context.lab)
        return next((node for node in context.lab.nodes if node.name in reasons), control_plane)

    report("waiting for the Kubernetes API")
    has_assembled = seldom(partial(_has_assembled, context, control_plane), LOOK_SECONDS)
    _await(
        context,
        partial(_api_up, context, has_assembled),
        f"the API server at {context.lab.api_server}",
        API_SECONDS,
        lambda: control_plane,
    )
    _await(context, partial(_nodes_ready, context, report), "the cluster", NODES_SECONDS, unready_node)


def _api_up(context: Context, has_assembled: Callable[[], bool | None]) -> Pending | None:
    """Return None once the API is up. A node that is assembled had reached it since its boot: silence does not pass."""
    result = pending_while_unready(context.cluster.is_up)
    if not isinstance(result, Pending) or not has_assembled():
        return result
    hint = f"`labctl --name {context.lab.name} halt`, then `labctl --name {context.lab.name} resume`, starts it anew."
    return Pending(f"it answered before, and does not now: {result.reason}", "api-unreachable", hint, FALLEN_SECONDS)


def _has_assembled(context: Context, node: Node) -> bool:
    """Return whether the node has assembled itself since it booted; not known of one that cannot be asked."""
    try:
        said = run(context.provider.command(node, ASSEMBLED), timeout=ASK_SECONDS)
    except ProviderError:
        return False
    return said.out.strip() == "active"


def _await(
    context: Context, look: Callable[[], Pending | None], what: str, timeout: float, late: Callable[[], Node]
) -> None:
    """Return once `look` sees nothing pending. `late` says whose last lines to show when the time is up."""
    refuse = seldom(partial(_refuse_to_wait, context), LOOK_SECONDS)

    def looked() -> Pending | None:
        refuse()
        return look()

    try:
        until(looked, what=what, timeout=timeout)
    except NotReadyError as error:
        if error.id != NOT_READY:
            raise
        raise _with_log(context, late(), "node-not-ready", error) from error


def _refuse_to_wait(context: Context) -> None:
    """Return if every node may still become Ready by itself."""
    for node in context.lab.nodes:
        trouble = context.provider.trouble(node)
        if trouble is None:
            continue
        if trouble.is_running:
            raise _with_log(context, node, "node-not-assembled", NotReadyError(trouble.text, id=NOT_READY))
        lines = last_words(context.provider.collect_logs(node, (ASSEMBLY,)))
        exited = ProviderError(
            trouble.text,
            id="node-exited",
            hint="`labctl up` starts it again; `labctl destroy`, then `labctl up`, makes it anew."
            + ("" if lines else SILENT),
            details=tuple(f"{node.name}: {line}" for line in lines),
        )
        known = recognised(exited, "\n".join(lines), node=node.name)
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
        return pending_while_unready(partial(_reported, context))
    report(f"waiting for {', '.join(reasons)}")
    return Pending("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


def _reported(context: Context) -> Pending | None:
    """Return None once what the API says of the nodes' pods is from after the nodes' start."""
    for node in context.lab.nodes:
        said = state.ready_containers(context.cluster, node.name)
        tasks = _tasks(context, node) if said else None
        if tasks is not None and (ended := [pod for pod, containers in said.items() if not containers <= tasks]):
            return Pending(f"{node.name}: its kubelet has not reported yet that {', '.join(ended)} ended")
    return None


def _tasks(context: Context, node: Node) -> set[str] | None:
    """Return the ids of what the node's containerd runs now; None where the node cannot be asked."""
    try:
        listed = run(context.provider.command(node, TASKS), timeout=ASK_SECONDS)
    except ProviderError:
        return None
    return None if listed.code == NO_CONNECTION else set(listed.out.split())


def _with_log(context: Context, node: Node, identity: str, error: NotReadyError) -> NotReadyError:
    """Return the error with the last lines that the node wrote while it assembled itself, and what is known of them."""
    lines = last_words(context.provider.collect_logs(node, (ASSEMBLY,)))
    unready = NotReadyError(
        error.message,
        id=identity,
        hint=f"For details, run `labctl ssh {node.name} -- sudo journalctl -u labctl-node -u kubelet`.",
        details=tuple(f"{node.name}: {line}" for line in lines),
    )
    return recognised(unready, "\n".join(lines), node=node.name)
