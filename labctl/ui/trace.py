"""Show the path of a request: a line for each hop, its evidence, and what is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from labctl.model.reports import HopReport, OpenReport, TraceReport
from labctl.ui.screen import console, one_line, printable, symbols

Evidence = Mapping[str, Any]
HOP_WIDTH = max(map(len, ("name", "address", "node", "rule", "pod", "response")))
STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red", "unknown": "yellow", "not reached": "dim"}


def trace(report: TraceReport, stdout: TextIO) -> None:
    """Print the path from the client to the pod and back, up to the hop that is broken."""
    from rich.text import Text  # noqa: PLC0415 - see console()

    screen, signs = console(stdout), symbols(stdout)
    marks = {
        "ok": signs.changed,
        "warning": "!",
        "broken": signs.failed,
        "unknown": "?",
        "not reached": signs.unchanged,
    }
    path = next((hop["evidence"].get("path") for hop in report["hops"] if hop["hop"] == "response"), None) or "/"
    url = f"http://{report['hostname']}{path}"
    screen.print(Text.assemble(("GET ", "dim"), (one_line(url), "bold")), soft_wrap=True)
    for hop in report["hops"]:
        style = STYLES[hop["state"]]
        first, *more = _sentences(hop)
        head = Text.assemble((f"  {marks[hop['state']]} {hop['hop']:<{HOP_WIDTH}}", style), f"  {one_line(first)}")
        screen.print(head, soft_wrap=True)
        for sentence in more:
            screen.print(
                Text.assemble((f"  {signs.path} {'':<{HOP_WIDTH}}  ", "dim"), one_line(sentence)), soft_wrap=True
            )


def opened_page(report: OpenReport, stdout: TextIO) -> None:
    """Print which page was opened in which browser, and the warnings of its hops."""
    print(f"url: {report['url']}\nbrowser: {report['browser']}", file=stdout)
    for hop in report["warnings"]:
        advice = [f"  {line}" for line in (hop["fix"] or "", *hop["commands"]) if line]
        finding = f"{hop['state']}: {hop['hop']}: {hop['evidence'].get('finding', '')}"
        print(*map(one_line, [finding]), *map(printable, advice), sep="\n", file=stdout)


def _sentences(hop: HopReport) -> Sequence[str]:
    if hop["state"] == "not reached":
        return ("not reached",)
    sentences = evidence_sentences(hop)
    if hop["cause"] is None:
        return sentences
    finding = str(hop["evidence"]["finding"])
    fix = [f"fix: {hop['fix']}"] if hop["fix"] else []
    return (finding, *(f"seen: {each}" for each in sentences), *fix, *(f"$ {command}" for command in hop["commands"]))


def evidence_sentences(hop: HopReport) -> list[str]:
    """Return the evidence of a hop in sentences; none if the hop was not examined in full."""
    evidence = hop["evidence"]
    return SENTENCES[hop["hop"]](evidence) if NEEDED[hop["hop"]] <= evidence.keys() else []


def _name(evidence: Evidence) -> list[str]:
    if evidence["address"] is None:
        return []
    connections = {None: "", "connected": ", which accepts connections", "refused": ", which refuses connections"}
    others = [
        f"and to {each['address']}{connections.get(each['connection'], ', which does not answer')}: {each['source']}"
        for each in evidence.get("others", ())
        if each["address"] != evidence["address"]
    ]
    return [f"resolves to {evidence['address']} ({evidence['milliseconds']} ms)", evidence["source"], *others]


def _address(evidence: Evidence) -> list[str]:
    pool = f"from MetalLB's pool {evidence['pool']}" if evidence["pool"] else "from no pool"
    owned = f"{evidence['address']} belongs to the Service {evidence['service']}, {pool}"
    request, event = evidence["requested"], evidence["event"]
    wanted = ", ".join(request["addresses"] or [f"the pool {request['pool']}"]) if request else ""
    others = ", ".join(evidence["shared_with"])
    return [
        *([owned] if evidence["address"] else [*map(_pool_of, evidence["pools"])]),
        *([f"it requests {wanted}, by {request['by']}"] if request else []),
        *([f"also with this address: {others}"] if others else []),
        *([f"MetalLB at {event['time']}: {event['reason']}: {event['message']}"] if event else []),
    ]


def _pool_of(pool: Evidence) -> str:
    limits = {"autoAssign is off": not pool["auto_assign"], "not for this Service": not pool["allows_service"]}
    limits_text = "".join(f", {limit}" for limit, applies in limits.items() if applies)
    return f"pool {pool['name']}: {', '.join(pool['addresses'])}, {pool['free']} free{limits_text}"


def _node(evidence: Evidence) -> list[str]:
    answers = ", ".join(f"{each['mac']} ({each['node'] or 'no node of the lab'})" for each in evidence["answers_arp"])
    by, unasked = evidence["announced_by"], evidence.get("not_asked")
    record = f"MetalLB announces it from {by}" if by else "MetalLB reports no announcing node"
    remembered, connection = evidence.get("remembered") or {}, evidence.get("connection")
    is_stale = remembered and remembered["mac"] not in {each["mac"] for each in evidence["answers_arp"]}
    return [
        f"the announcing node is unknown: {unasked}" if unasked else record,
        f"ARP is answered by {answers or 'no machine'}",
        *([f"in the ARP cache: {remembered['mac']}, {remembered['state'].lower()}"] if is_stale else []),
        f"route: {evidence['route']}",
        *([f"connection: {connection['reason']}"] if connection and connection["reason"] else []),
    ]


def _rule(evidence: Evidence) -> list[str]:
    backend, split = evidence["backend"], evidence["split"]
    by = "".join(f", or by {name}" for name in split["by"]) if split else ""
    part = f"{split['weight']} of {split['total']} requests{by} go to the canary's Service" if split else ""
    others = ", ".join(evidence["other_ingresses"])
    return [
        f"the Ingress {evidence['ingress']}, class {evidence['class']}: host {evidence['host']}, path {evidence['path']}",
        f"routes to the Service {backend['service']}, port {backend['port']}",
        *([f"{part} {split['service']}, by the Ingress {split['ingress']}"] if split else []),
        *([f"also with rules for it: {others}"] if others else []),
        *(f"ready controller: {each['pod']} on {each['node']}" for each in evidence["controller_pods"]),
    ]


def _pod(evidence: Evidence) -> list[str]:
    slices = ", ".join(evidence["endpoint_slices"]) or "no EndpointSlice"
    pods = [
        f"{each['pod'] or 'an endpoint that is not a pod'} ({each['address']}{' on ' if each['node'] else ''}{each['node'] or ''})"
        for each in evidence["pods"]
    ]
    if "external_name" in evidence:
        return [f"the Service {evidence['service']} is an alias of {evidence['external_name']}, outside the cluster"]
    return [f"the Service {evidence['service']}, by {slices}", *(pods or ["no ready pod"])]


def _response(evidence: Evidence) -> list[str]:
    parts = {"name": "name", "connect": "connect", "first_byte": "first byte"}
    taken = evidence["milliseconds"]
    timings = [f"{name} {taken[part]} ms" for part, name in parts.items() if taken.get(part) is not None]
    status = f"HTTP {evidence['status']}" if evidence["status"] else "no answer"
    from_pod = f" from pod {evidence['answered_by']}" if evidence["answered_by"] else ""
    through = f" through {evidence['taken_by']}" if evidence["taken_by"] else ""
    redirect = evidence["redirect"]
    end = f"HTTP {redirect['status']}" if redirect and redirect["status"] else redirect and redirect["failure"]
    return [
        f"{status}{from_pod}; {', '.join(timings)}",
        *_body(evidence),
        *_answers(evidence),
        *([f"redirects to {redirect['location']}: {end}"] if redirect else []),
        f"back{through} from {evidence['way_back']}",
    ]


def _body(evidence: Evidence) -> list[str]:
    """Return how the body ended, if it is incomplete."""
    body = evidence.get("body") or {"state": "whole"}
    return [] if body["state"] == "whole" else [f"the body {body['state']} after {body['bytes']} bytes"]


def _answers(evidence: Evidence) -> list[str]:
    """Return what each pod answered, if there are several."""
    pods = evidence.get("pods") or ()
    texts = (f"{each['pod']} HTTP {each['status']}" if each["status"] else f"{each['pod']} nothing" for each in pods)
    return [f"of {len(pods)} pods: {', '.join(texts)}"] if len(pods) > 1 else []


NEEDED: Mapping[str, frozenset[str]] = {
    "name": frozenset({"address", "source"}),
    "address": frozenset({"service", "pool", "pools", "requested", "shared_with", "event"}),
    "node": frozenset({"announced_by", "answers_arp", "route"}),
    "rule": frozenset({"host", "backend", "controller_pods"}),
    "pod": frozenset({"service", "endpoint_slices", "pods"}),
    "response": frozenset({"status", "way_back"}),
}
"""The evidence that every hop has that was examined in full."""
SENTENCES: Mapping[str, Callable[[Evidence], list[str]]] = {
    "name": _name,
    "address": _address,
    "node": _node,
    "rule": _rule,
    "pod": _pod,
    "response": _response,
}
"""The function that makes each hop's sentences."""
