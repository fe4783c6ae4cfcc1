"""Output of the path of a request: healthy, broken, in colour, and as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from fake_trace import hop as hop_report
from golden_files import Golden

from labctl import ui
from labctl.model.reports import HopReport, HopState, TraceReport

NAME = {"address": "192.168.56.100", "source": "/etc/hosts, line 3: 192.168.56.100 my-app.local", "milliseconds": 2.1}
ADDRESS: dict[str, Any] = {
    "address": "192.168.56.100",
    "service": "ingress-nginx/ingress-nginx-controller",
    "pool": "demo",
    "pools": [],
    "requested": None,
    "shared_with": [],
    "event": None,
}
POOL_EVIDENCE = {
    "name": "demo",
    "addresses": ["10.9.0.0/24"],
    "free": 0,
    "auto_assign": False,
    "allows_service": False,
}
NODE = {
    "announced_by": "demo-worker-1",
    "answers_arp": [{"mac": "02:00:00:00:00:11", "node": "demo-worker-1"}],
    "route": "dev br-demo src 192.168.56.1",
}
RULE = {
    "ingress": "default/my-app",
    "host": "my-app.local",
    "path": "/",
    "class": "nginx",
    "backend": {"service": "my-app", "port": 80},
    "split": None,
    "other_ingresses": [],
    "controller_pods": [{"pod": "c-1", "node": "demo-worker-1"}, {"pod": "c-2", "node": "demo-worker-2"}],
}
POD = {
    "namespace": "default",
    "service": "my-app",
    "endpoint_slices": ["my-app-s"],
    "pods": [{"pod": "my-app-1", "address": "10.244.1.5", "node": "demo-worker-1"}],
}
RESPONSE = {
    "status": 200,
    "taken_by": "c-1",
    "answered_by": "my-app-1",
    "path": "/",
    "redirect": None,
    "body": {"state": "whole", "bytes": 615, "expected": 615},
    "pods": [{"pod": "my-app-1", "status": 200}],
    "milliseconds": {"name": 2.1, "connect": 0.4, "first_byte": 1.6, "body": 0.1},
    "way_back": "192.168.56.100:80 to 192.168.56.1:40000",
}
EVIDENCE = {"name": NAME, "address": ADDRESS, "node": NODE, "rule": RULE, "pod": POD, "response": RESPONSE}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "LANG": "C.UTF-8", "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)


def test_a_healthy_path_is_shown_with_its_evidence_on_any_terminal_width(golden: Golden) -> None:
    golden(shown(EVIDENCE))


def test_the_path_is_ascii_if_symbols_are(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shown(EVIDENCE)
    monkeypatch.setenv("LANG", "C")

    assert shown(EVIDENCE) == whole.replace("✓", "+").replace("│", "|")


def test_a_broken_hop_is_shown_with_cause_evidence_and_fix(golden: Golden) -> None:
    stranger = NODE | {"announced_by": None, "answers_arp": [{"mac": "02:00:00:00:00:99", "node": None}]}

    golden(shown({"name": NAME, "address": ADDRESS}, "node", stranger))


@pytest.mark.parametrize(("state", "symbol"), [("warning", "!"), ("unknown", "?")])
def test_a_warning_and_an_unknown_hop_have_symbols_of_their_own(state: HopState, symbol: str) -> None:
    stdout = io.StringIO()
    report = trace_report(EVIDENCE)
    report["hops"][0] = hop_report("name", "hosts-entry-doubled", "two lines", state=state, evidence=NAME)

    ui.trace(report, stdout)

    assert stdout.getvalue().splitlines()[1] == f"  {symbol} name      two lines"


def test_a_canary_a_redirect_and_an_external_name_are_shown(golden: Golden) -> None:
    canary = {"ingress": "default/canary", "service": "canary", "weight": 10, "total": 100, "by": ["x-canary"]}
    redirect = {"location": "/login", "status": 200, "failure": ""}
    rule, response = RULE | {"split": canary, "other_ingresses": ["default/b"]}, RESPONSE | {"redirect": redirect}
    pod = POD | {"external_name": "example.com"}

    golden(shown(EVIDENCE | {"rule": rule, "pod": pod, "response": response}))


def test_a_response_without_evidence_is_shown_below_the_url() -> None:
    assert shown({}, "response").startswith("GET http://my-app.local/\n")


def test_a_broken_hop_without_evidence_has_a_cause_and_a_fix(golden: Golden) -> None:
    golden(shown({}, "name"))


UNUSUAL: dict[str, tuple[str, Mapping[str, Any]]] = {
    "no pool": ("address", ADDRESS | {"pool": None}),
    "a full pool": ("address", ADDRESS | {"address": None, "pools": [POOL_EVIDENCE]}),
    "a requested address": (
        "address",
        ADDRESS | {"requested": {"addresses": ["10.9.0.7"], "pool": None, "by": "metallb.io/loadBalancerIPs"}},
    ),
    "a requested pool": (
        "address",
        ADDRESS | {"requested": {"addresses": [], "pool": "b", "by": "metallb.io/address-pool"}},
    ),
    "a shared address": ("address", ADDRESS | {"shared_with": ["default/x"]}),
    "an event": ("address", ADDRESS | {"event": {"reason": "AllocationFailed", "message": "no", "time": "12:00"}}),
    "no ARP response": ("node", NODE | {"answers_arp": []}),
    "no ARP request": ("node", NODE | {"not_asked": "it is down"}),
    "a neighbour entry": ("node", NODE | {"remembered": {"mac": "x", "state": "STALE"}}),
    "a refused connection": ("node", NODE | {"connection": {"outcome": "refused", "reason": "No way"}}),
    "no EndpointSlice and no pod": ("pod", POD | {"endpoint_slices": [], "pods": []}),
    "an endpoint without a pod": ("pod", POD | {"pods": [{"pod": None, "address": "192.168.56.1", "node": None}]}),
    "no response": (
        "response",
        RESPONSE
        | {"status": None, "answered_by": None, "milliseconds": {"name": 2.1, "connect": 0.4, "first_byte": None}},
    ),
    "a response of an unknown server": ("response", RESPONSE | {"status": 503, "answered_by": None}),
    "a truncated body": ("response", RESPONSE | {"body": {"state": "stopped", "bytes": 10, "expected": 615}}),
    "pods that differ": (
        "response",
        RESPONSE | {"pods": [{"pod": "my-app-1", "status": 200}, {"pod": "my-app-2", "status": None}]},
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_evidence_is_shown(name: str, golden: Golden) -> None:
    golden(shown({}, *UNUSUAL[name]))


def test_escape_sequences_in_evidence_are_removed() -> None:
    forged = NAME | {"source": "line 1: \x1b[2J10.0.0.1\nmy-app.local"}

    assert "  │           line 1: 10.0.0.1 my-app.local\n" in shown(EVIDENCE | {"name": forged})


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_states_have_colours_on_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, no_color: str, *, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = Terminal()

    ui.trace(trace_report({"name": NAME}, "address"), terminal)
    ok, broken, not_reached = (
        next(line for line in terminal.getvalue().splitlines() if hop in line) for hop in ("name", "address", "rule")
    )

    assert ("\x1b[32m" in ok, "\x1b[1;31m" in broken, "\x1b[2m" in not_reached) == (coloured,) * 3


def test_with_json_the_report_is_printed_unchanged() -> None:
    stdout = io.StringIO()
    report = trace_report({"name": NAME}, "address")

    ui.document(report, "json", stdout, ui.trace)

    assert json.loads(stdout.getvalue()) == {"version": 1, **report}


def trace_report(
    evidence_by_hop: Mapping[str, Any], broken: str = "", evidence: Mapping[str, Any] | None = None
) -> TraceReport:
    hops = [hop(name, evidence_by_hop, broken, evidence or {}) for name in EVIDENCE]
    return {"version": 1, "hostname": "my-app.local", "ok": not broken, "hops": hops}


def hop(name: str, evidence_by_hop: Mapping[str, Any], broken: str, evidence: Mapping[str, Any]) -> HopReport:
    if name == broken:
        return hop_report(name, "no-answer", "it is [not]\nright", fix="Type this.", evidence=evidence)
    return (
        hop_report(name, evidence=evidence_by_hop[name])
        if name in evidence_by_hop
        else hop_report(name, state="not reached")
    )


def shown(evidence_by_hop: Mapping[str, Any], broken: str = "", evidence: Mapping[str, Any] | None = None) -> str:
    stdout = io.StringIO()
    ui.trace(trace_report(evidence_by_hop, broken, evidence), stdout)
    return stdout.getvalue()


def test_an_opened_page_is_printed_with_the_warnings_on_its_path(golden: Golden) -> None:
    warning = hop_report("pod", "pod-not-ready", "one of two is not ready", state="warning", fix="Look at it.")
    screen = io.StringIO()
    ui.opened_page({"version": 1, "url": "http://my-app.local", "browser": "firefox", "warnings": [warning]}, screen)

    golden(screen.getvalue())
