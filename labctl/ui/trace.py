"""How `labctl trace` shows the path of a request: a line a hop, its evidence below, and what is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from labctl.report import HopReport, TraceReport
from labctl.ui.screen import console, one_line, symbols

Evidence = Mapping[str, Any]
HOP_WIDTH = max(map(len, ("name", "address", "node", "rule", "pod", "response")))
STYLES = {"ok": "green", "broken": "bold red", "not reached": "dim"}


def trace(report: TraceReport, stdout: TextIO) -> None:
    """The path from the client to the pod and back, up to where it is broken."""
    from rich.text import Text  # noqa: PLC0415 - see console()

    screen, signs = console(stdout), symbols(stdout)
    marks = {"ok": signs.changed, "broken": signs.failed, "not reached": signs.unchanged}
    screen.print(Text.assemble(("GET ", "dim"), (one_line(f"http://{report['hostname']}/"), "bold")), soft_wrap=True)
    for hop in report["hops"]:
        style = STYLES[hop["state"]]
        first, *more = _sentences(hop)
        head = Text.assemble((f"  {marks[hop['state']]} {hop['hop']:<{HOP_WIDTH}}", style), f"  {one_line(first)}")
        screen.print(head, soft_wrap=True)
        for sentence in more:
            screen.print(
                Text.assemble((f"  {signs.path} {'':<{HOP_WIDTH}}  ", "dim"), one_line(sentence)), soft_wrap=True
            )


def _sentences(hop: HopReport) -> Sequence[str]:
    if hop["state"] == "not reached":
        return ("not reached",)
    told = TOLD[hop["hop"]](hop["evidence"]) if hop["evidence"] else []
    if hop["state"] == "broken":
        return (hop["cause"], *(f"seen: {each}" for each in told), f"fix: {hop['fix']}")
    return told


def _name(evidence: Evidence) -> list[str]:
    return [f"it is {evidence['address']}, found in {evidence['milliseconds']} ms", evidence["source"]]


def _address(evidence: Evidence) -> list[str]:
    pool = f"out of MetalLB's pool {evidence['pool']}" if evidence["pool"] else "out of no pool"
    return [f"{evidence['address']} belongs to the Service {evidence['service']}, {pool}"]


def _node(evidence: Evidence) -> list[str]:
    answers = ", ".join(f"{each['mac']} ({each['node'] or 'no node of the lab'})" for each in evidence["answers_arp"])
    return [
        f"MetalLB announces it from {evidence['announced_by']}"
        if evidence["announced_by"]
        else "MetalLB has no record of who announces it",
        f"ARP is answered by {answers or 'nobody'}",
        f"route: {evidence['route']}",
    ]


def _rule(evidence: Evidence) -> list[str]:
    backend = evidence["backend"]
    return [
        f"the Ingress {evidence['ingress']}, class {evidence['class']}: host {evidence['host']}, path {evidence['path']}",
        f"leads to the Service {backend['service']}, port {backend['port']}",
        *(f"ready to take it: {each['pod']} on {each['node']}" for each in evidence["controller_pods"]),
    ]


def _pod(evidence: Evidence) -> list[str]:
    slices = ", ".join(evidence["endpoint_slices"]) or "no EndpointSlice"
    pods = [f"{each['pod']} ({each['address']} on {each['node']})" for each in evidence["pods"]]
    return [f"the Service {evidence['service']}, by {slices}", *(pods or ["no pod that is ready"])]


def _response(evidence: Evidence) -> list[str]:
    parts = {"name": "name", "connect": "connect", "first_byte": "first byte"}
    timings = [f"{parts[part]} {each} ms" for part, each in evidence["milliseconds"].items() if each is not None]
    status = f"HTTP {evidence['status']}" if evidence["status"] else "no answer"
    from_pod = f" from pod {evidence['answered_by']}" if evidence["answered_by"] else ""
    through = f" through {evidence['taken_by']}" if evidence["taken_by"] else ""
    return [f"{status}{from_pod}; {', '.join(timings)}", f"back{through} from {evidence['way_back']}"]


TOLD: Mapping[str, Callable[[Evidence], list[str]]] = {
    "name": _name,
    "address": _address,
    "node": _node,
    "rule": _rule,
    "pod": _pod,
    "response": _response,
}
