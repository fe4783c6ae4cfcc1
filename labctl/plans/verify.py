"""The `verify` step: check with `trace` that every app is reachable, or report why it is not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address

from labctl import trace
from labctl.cluster import state
from labctl.context import Context
from labctl.host.wait import Pending, pending_while_unready, until
from labctl.model.errors import NotReadyError
from labctl.model.events import Progress
from labctl.model.lab import App
from labctl.model.limits import Limits
from labctl.model.reports import HopReport, TraceReport
from labctl.plans.plan import Outcome

Deployment = tuple[str, str]
"""A Deployment's namespace and name."""


def verify(context: Context, report: Progress) -> Outcome:
    """Wait until every app that has pods answers by name."""
    late = _await_rollouts(context, report)
    apps = [app for app in context.lab.apps if not app.is_scaled_to_zero]
    reports = {app: _await_reachable(context, app, report, late) for app in apps}
    is_named = all(trace.broken_hop(trace_report) is None for trace_report in reports.values())
    way = "by name" if is_named else "at the lab's address: this machine does not resolve their names"
    resting = [f"{app.name} has no pods" for app in context.lab.apps if app.is_scaled_to_zero]
    doubts = [
        f"{app.url}: {trace.finding(hop)}"
        for app, trace_report in reports.items()
        for hop in trace_report["hops"]
        if hop["state"] == trace.WARNING
    ]
    text = f"{len(apps)} of {len(context.lab.apps)} apps answer {way}"
    return Outcome(changed=False, text="; ".join([text, *resting, *doubts]))


def ingress_address(context: Context) -> IPv4Address | Pending:
    """Return the address of the ingress controller's Service, or the reason that `trace` finds for its absence."""
    controller = context.controller
    address = state.load_balancer_address(context.cluster, controller.namespace, controller.service)
    if isinstance(address, IPv4Address):
        return address
    hop = trace.shared(context)["address"]
    return _pending(context, hop) if hop["state"] == trace.BROKEN else address


def pending_rollout(context: Context, namespace: str, name: str, *, is_app: bool) -> Pending | None:
    """Return why the pods of a Deployment are not ready; None if they are."""
    return pending_while_unready(partial(state.rollout, context.cluster, namespace, name, is_app=is_app))


def rollout_seconds(limits: Limits, pods: int) -> float:
    """Return the time limit of a rollout that replaces this many pods one after the other."""
    return limits.ready + limits.next_pod * max(pods - 1, 0)


def cut_off_from_api_server(context: Context, namespace: str, name: str) -> Pending | None:
    """Return why the API server cannot reach the pods of a Deployment; None if it can."""
    hop = trace.cut_off(context, namespace, name)
    return None if hop is None else _pending(context, hop)


def _await_rollouts(context: Context, report: Progress) -> dict[Deployment, NotReadyError]:
    """Wait until the pods of the ingress controller and of the apps are ready; return, by Deployment, why some are not."""
    controller, limits = context.controller, context.lab.limits
    one_by_one = rollout_seconds(limits, len(context.lab.serving_nodes))
    deployments = [(controller.namespace, controller.deployment, one_by_one, False)]
    deployments += [(*_deployment_of(app), limits.ready, True) for app in context.lab.apps]
    late: dict[Deployment, NotReadyError] = {}
    for namespace, name, seconds, is_app in deployments:
        report(f"waiting for the pods of {name}")
        ready = partial(pending_rollout, context, namespace, name, is_app=is_app)
        try:
            until(ready, what=f"the Deployment {namespace}/{name}", timeout=seconds, interval=limits.poll)
        except NotReadyError as error:
            report(error.message)
            late[namespace, name] = error
    return late


def _deployment_of(app: App) -> Deployment:
    return "default", app.name


def _await_reachable(
    context: Context, app: App, report: Progress, late: Mapping[Deployment, NotReadyError]
) -> TraceReport:
    """Wait until a request reaches the app; return its trace.

    Raises the Deployment's error in `late` if no request reaches it, or if only an earlier version answers.
    """
    report(f"requesting {app.url}")
    controller = context.controller
    reason = late.get(_deployment_of(app)) or late.get((controller.namespace, controller.deployment))
    if reason is None:
        limits = context.lab.limits
        look = partial(_trace_once, context, app)
        trace_report = until(look, what=app.url, timeout=limits.ready, interval=limits.poll)
    else:
        looked = _trace_once(context, app)
        if isinstance(looked, Pending) or not _is_newest(context, app):
            raise reason
        trace_report = looked
    for hop in trace_report["hops"]:
        if hop["cause"]:
            report(f"{app.url}: {trace.finding(hop)}")
    _await_published(context, app, report)
    report(f"HTTP {trace_report['hops'][-1]['evidence'].get('status')} from {app.url}")
    return trace_report


def _await_published(context: Context, app: App, report: Progress) -> None:
    """Wait until the ingress controller has written the address into the app's Ingress."""
    report(f"waiting for the address of the Ingress {app.name}")
    limits, controller = context.lab.limits, context.controller
    service = controller.namespace, controller.service
    until(
        partial(pending_while_unready, partial(state.published_address, context.cluster, service, app.name)),
        what=f"the ADDRESS of the Ingress default/{app.name}",
        timeout=limits.ready,
        interval=limits.poll,
        hint=f"For the log of the ingress controller, run `labctl exec -- kubectl -n {controller.namespace} logs "
        f"deployment/{controller.deployment}`.",
    )


def _is_newest(context: Context, app: App) -> bool:
    """Return whether all pods of an app, ready or not, are of its newest version."""
    deployment = context.cluster.get("apps/v1", "Deployment", app.name, "default") or {"spec": {}, "status": {}}
    counts = {deployment["status"].get(key, 0) for key in ("replicas", "updatedReplicas")}
    return counts == {deployment["spec"].get("replicas", 1)}


def _trace_once(context: Context, app: App) -> TraceReport | Pending:
    """Return the trace of a request that reached the app, by name or, if the name is missing, at its address."""
    trace_report = trace.follow(context, app.hostname, past=trace.MISSING_NAME)
    answer = trace_report["hops"][-1]
    is_unasked = answer["state"] == trace.UNKNOWN and answer["evidence"].get("status") is None
    hop = trace.broken_hop(trace_report, trace.MISSING_NAME) or (answer if is_unasked else None)
    return trace_report if hop is None else _pending(context, hop)


def _pending(context: Context, hop: HopReport) -> Pending:
    cause = str(hop["cause"])
    hint = " ".join(filter(None, [hop["fix"], *(f"`{command}`" for command in hop["commands"])]))
    patience = trace.CAUSES[cause].patience * context.lab.slowness
    return Pending(f"{hop['hop']}: {trace.finding(hop)}", cause, hint, patience)
