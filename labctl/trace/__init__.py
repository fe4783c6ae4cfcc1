"""Follow a request from the browser to the pod, hop by hop, with fresh evidence for each."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from labctl.context import Context
from labctl.model.errors import LabError
from labctl.model.reports import HopReport, TraceReport
from labctl.trace import stopped
from labctl.trace.address import address as address_hop
from labctl.trace.api_errors import api_problem
from labctl.trace.causes import CAUSES
from labctl.trace.metallb.pools import read as pools
from labctl.trace.name import name as name_hop
from labctl.trace.node import node, pod_routes
from labctl.trace.node.clocks import clock_problem as clock_off
from labctl.trace.probes.client import Client
from labctl.trace.problem import BROKEN, UNKNOWN, UP, WARNING, Evidence, ProblemError, labctl
from labctl.trace.response import response
from labctl.trace.rule import rule
from labctl.trace.rules.rules import ROOT
from labctl.trace.stopped import not_running
from labctl.trace.stopped import stopped_engine as no_engine
from labctl.trace.trail import Hop, Trail, target
from labctl.trace.unchecked import without_refutable_fix

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

__all__ = [
    "BROKEN",
    "CAUSES",
    "HOPS",
    "MISSING_NAME",
    "UNKNOWN",
    "UP",
    "WARNING",
    "Client",
    "api_problem",
    "broken_hop",
    "clock_off",
    "cut_off",
    "finding",
    "follow",
    "no_engine",
    "not_running",
    "pools",
    "shared",
    "traces",
]

NOT_REACHED: Final = "not reached"
WATCH_SECONDS = 1.0
POLL_SECONDS = 0.3
HOPS: Mapping[str, Hop] = {
    "name": name_hop.name,
    "address": address_hop.address,
    "node": node.node,
    "rule": rule.rule,
    "pod": rule.pod,
    "response": response.response,
}
"""The hops, in the order in which a request passes them."""
SHARED = ("address", "node")
"""The hops that are the same for every hostname."""
MISSING_NAME = frozenset({"hosts-entry-missing", "hosts-entry-outdated", "hosts-file-not-read", "hosts-damaged"})
"""Causes that a user who cannot write the hosts file may see; the lab is still reachable by its address."""


def follow(
    context: Context,
    wanted: str | None,
    client: Client | None = None,
    *,
    past: Collection[str] = (),
    cluster: Cluster | None = None,
    known: Mapping[str, HopReport] | None = None,
) -> TraceReport:
    """Follow a request for a hostname or URL (default: the first app's) up to the first broken hop.

    A hop that cannot be checked, for example because the API does not answer, is unknown; the next ones are checked.
    The causes in `past` do not end the trace. To follow several requests at once, pass `cluster`, a client with short
    timeouts, and `known`, the result of `shared`. Raises UsageError as `target` does.
    """
    trail = Trail(
        context, client or Client(context.lab.limits), *target(context, wanted), cluster or context.cluster.impatient()
    )
    reports, enough = _unreachable_nodes(trail) or {}, trail.limits.trace_enough
    for name in HOPS:
        is_cut_off = any(report["state"] == BROKEN and report["cause"] not in past for report in reports.values())
        if name in reports:
            continue
        if is_cut_off:
            reports[name] = _not_reached(name)
        elif known and name in known:
            reports[name] = known[name]
            trail.evidence[name] = known[name]["evidence"]
        elif name == "pod" and reports["rule"]["state"] == UNKNOWN and not trail.evidence["rule"]:
            reports[name] = {**reports["rule"], "hop": name}
            trail.evidence[name] = {}
        elif name == "response" and not trail.is_unanswered and trail.left(enough) < enough:
            reports[name] = _problem_report(name, trail, response.no_time())
        else:
            reports[name] = _with_shared_cause(trail, reports, _check_until_settled(name, trail))
    ok = all(report["state"] not in {BROKEN, NOT_REACHED} for report in reports.values())
    return {"version": 1, "hostname": trail.hostname, "ok": ok, "hops": list(reports.values())}


def shared(context: Context, cluster: Cluster | None = None) -> dict[str, HopReport]:
    """Check the hops that all hostnames share.

    If the address is unknown, each hostname may resolve to its own, so the hop to the node is left out.
    """
    trail = Trail(context, Client(context.lab.limits), "", ROOT, cluster or context.cluster.impatient())
    if no_network := _unreachable_nodes(trail):
        return {name: no_network[name] for name in SHARED}
    address = _check_until_settled("address", trail)
    if address["state"] == UNKNOWN and trail.controllers_address() is None:
        return {"address": address}
    is_cut_off = address["state"] == BROKEN
    to_node = (
        _not_reached("node")
        if is_cut_off
        else _with_shared_cause(trail, {"address": address}, _check_until_settled("node", trail))
    )
    return {"address": address, "node": to_node}


def cut_off(context: Context, namespace: str, deployment: str) -> HopReport | None:
    """Return a report of what prevents the API server from reaching a Deployment's pods; None if nothing does."""
    trail = Trail(context, Client(context.lab.limits), "", ROOT, context.cluster.impatient())
    problem = pod_routes.unreachable_from_api_server(trail, namespace, deployment)
    return None if problem is None else _problem_report("node", trail, problem)


def traces(context: Context, wanted: str | None, *, watch: bool, wait: float = 0.0) -> Iterator[TraceReport]:
    """Yield one trace, repeated until it succeeds or `wait` seconds have passed; with `watch`, yield one after another."""
    end = time.monotonic() + wait
    report = follow(context, wanted)
    while not report["ok"] and time.monotonic() < end:
        time.sleep(WATCH_SECONDS)
        report = follow(context, wanted)
    yield report
    while watch:
        time.sleep(WATCH_SECONDS)
        yield follow(context, wanted)


def broken_hop(report: TraceReport, past: Collection[str] = ()) -> HopReport | None:
    """Return the first broken hop, ignoring the causes in `past`; None if there is none."""
    return next((hop for hop in report["hops"] if hop["state"] == BROKEN and hop["cause"] not in past), None)


def finding(hop: HopReport) -> str:
    """Return the problem of a hop as text."""
    return str(hop["evidence"].get("finding", ""))


def _unreachable_nodes(trail: Trail) -> dict[str, HopReport] | None:
    """Return the hops up to the node if no node is reachable; None if this machine is in the lab's network."""
    problem = stopped.missing_network(trail.context, trail.client)
    if problem is None:
        return None
    broken = _problem_report("node", trail, problem)
    return {
        "name": {**broken, "hop": "name", "state": UNKNOWN},
        "address": {**broken, "hop": "address", "state": UNKNOWN},
        "node": broken,
    }


def _with_shared_cause(trail: Trail, before: Mapping[str, HopReport], report: HopReport) -> HopReport:
    """Return the hop; if one cause explains both a problem at the node and a silent API, report that cause instead."""
    if report["hop"] != "node" or report["cause"] is None or before["address"]["state"] != UNKNOWN:
        return report
    problem = stopped.stopped_engine(trail.context) or stopped.stopped_nodes(trail.context)
    return report if problem is None else _problem_report("node", trail, problem)


def _check_until_settled(name: str, trail: Trail) -> HopReport:
    """Check a hop, and repeat the check while its cause may be temporary. A repetition without enough time is ignored."""
    end = time.monotonic() + trail.left(trail.limits.trace_again)
    previous: HopReport | None = None
    while True:
        began = time.monotonic()
        report = _check_once(name, trail)
        if previous and (trail.unchecked or report["cause"] == "no-time-left"):
            return previous
        previous = report
        now = time.monotonic()
        may_pass = report["cause"] is not None and CAUSES[report["cause"]].passes
        if not may_pass or now >= end or trail.left(now - began) < now - began:
            return report
        time.sleep(POLL_SECONDS)
        trail.discard()


def _check_once(name: str, trail: Trail) -> HopReport:
    trail.unchecked.clear()
    try:
        evidence = HOPS[name](trail)
    except ProblemError as problem:
        return _problem_report(name, trail, without_refutable_fix(trail, problem))
    except LabError as error:
        return _problem_report(name, trail, api_problem(trail.lab, error))
    trail.evidence[name] = evidence
    return {"hop": name, "state": "ok", "cause": None, "fix": None, "commands": [], "evidence": evidence}


def _problem_report(name: str, trail: Trail, problem: ProblemError) -> HopReport:
    evidence: Evidence = {**problem.evidence, "finding": problem.text}
    trail.evidence[name] = problem.evidence
    is_unknown = problem.cause in MISSING_NAME or not evidence.get("address")
    if name == "name" and is_unknown and (address := trail.controllers_address()):
        trail.evidence[name] = {**problem.evidence, "address": str(address)}
    up = (labctl(trail.lab.name, "up"),)
    return {
        "hop": name,
        "state": problem.state,
        "cause": problem.cause,
        "fix": UP if problem.fix is None else problem.fix,
        "commands": list(up if problem.commands is None else problem.commands),
        "evidence": evidence,
    }


def _not_reached(name: str) -> HopReport:
    return {"hop": name, "state": NOT_REACHED, "cause": None, "fix": None, "commands": [], "evidence": {}}
