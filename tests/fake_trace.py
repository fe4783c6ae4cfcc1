"""A fake trace with prescribed results, for tests of code that runs a trace."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from labctl import trace
from labctl.cluster import state as cluster_state
from labctl.cluster.client import Cluster
from labctl.context import Context
from labctl.host import http_probe
from labctl.host.wait import Pending
from labctl.model.errors import LabError
from labctl.model.reports import HopReport, HopState, TraceReport

CAUSES = {404: "controller-has-no-route", 502: "backend-refused", 503: "controller-has-no-backend"}


class FakeFollow:
    """A trace with prescribed answers; the hop `name` is ok if the lab's hosts file contains the hostname."""

    def __init__(self, answers: Mapping[str, http_probe.ProbeResult]) -> None:
        self.answers = answers

    def __call__(
        self,
        context: Context,
        wanted: str | None,
        _client: object = None,
        *,
        past: Collection[str] = (),
        cluster: Cluster | None = None,  # noqa: ARG002 - the answers are prescribed
        known: Mapping[str, HopReport] | None = None,
    ) -> TraceReport:
        hostname = wanted or context.lab.apps[0].hostname
        answer = self.answers.get(hostname, http_probe.ProbeResult(200))
        hops = {name: hop(name) for name in trace.HOPS} | dict(known or {})
        hops["response"] = hop("response", evidence={"status": answer.status, "path": "/", "pods": []})
        if hostname not in context.lab.hosts_file.read_text():
            hops["name"] = hop("name", "hosts-entry-missing", f"{hostname} has no address", fix="Add it.")
        if answer.status is None or answer.status in CAUSES:
            cause = CAUSES.get(answer.status or 0, "no-answer")
            hops["response"] = hop("response", cause, str(answer), evidence={"status": answer.status})
        ok = all(each["state"] == "ok" for each in hops.values())
        if hops["name"]["cause"] not in {None, *past}:
            hops = {name: hops[name] if name == "name" else hop(name, state="not reached") for name in hops}
        return {"version": 1, "hostname": hostname, "ok": ok, "hops": list(hops.values())}


def shared(context: Context, cluster: Cluster | None = None) -> dict[str, HopReport]:
    """Return the hops `address` and `node`: ok if the ingress controller's Service has an address."""
    service, namespace = context.controller.service, context.controller.namespace
    try:
        address = cluster_state.load_balancer_address(cluster or context.cluster, namespace, service)
    except LabError as error:
        return {name: hop(name, error.id, error.message, state="unknown") for name in trace.SHARED}
    if isinstance(address, Pending):
        text = f"the Service {namespace}/{service} has no address: {address.reason}"
        return {"address": hop("address", "address-missing", text), "node": hop("node", state="not reached")}
    return {name: hop(name) for name in trace.SHARED}


def hop(
    name: str,
    cause: str | None = None,
    finding: str = "",
    *,
    state: HopState | None = None,
    fix: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> HopReport:
    """Return the report of a hop: by default broken if it has a cause, otherwise ok."""
    details = {**(evidence or {}), **({"finding": finding} if cause else {})}
    commands = ["labctl --name demo up"] if cause else []
    return {
        "hop": name,
        "state": state or ("broken" if cause else "ok"),
        "cause": cause,
        "fix": fix or ("Mend it." if cause else None),
        "commands": commands,
        "evidence": details,
    }
