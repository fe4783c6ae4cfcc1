"""How the path of a request is shown: whole, broken, in colour, and as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from fake_trace import hop as told
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


def test_a_whole_path_is_shown_with_its_evidence_however_narrow_the_terminal_is(golden: Golden) -> None:
    golden(shown(EVIDENCE))


def test_where_signs_are_plain_so_is_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shown(EVIDENCE)
    monkeypatch.setenv("LANG", "C")

    assert shown(EVIDENCE) == whole.replace("✓", "+").replace("│", "|")


def test_a_broken_hop_is_shown_with_cause_what_was_seen_and_fix(golden: Golden) -> None:
    stranger = NODE | {"announced_by": None, "answers_arp": [{"mac": "02:00:00:00:00:99", "node": None}]}

    golden(shown({"name": NAME, "address": ADDRESS}, "node", stranger))


@pytest.mark.parametrize(("state", "sign"), [("warning", "!"), ("unknown", "?")])
def test_a_hop_that_is_not_broken_and_not_well_has_a_sign_of_its_own(state: HopState, sign: str) -> None:
    stdout = io.StringIO()
    report = traced(EVIDENCE)
    report["hops"][0] = told("name", "hosts-entry-doubled", "two lines", state=state, evidence=NAME)

    ui.trace(report, stdout)

    assert stdout.getvalue().splitlines()[1] == f"  {sign} name      two lines"


def test_a_canary_a_redirect_and_a_name_outside_are_shown(golden: Golden) -> None:
    canary = {"ingress": "default/canary", "service": "canary", "weight": 10, "total": 100, "by": ["x-canary"]}
    redirect = {"location": "/login", "status": 200, "failure": ""}
    rule, response = RULE | {"split": canary, "other_ingresses": ["default/b"]}, RESPONSE | {"redirect": redirect}
    pod = POD | {"external_name": "example.com"}

    golden(shown(EVIDENCE | {"rule": rule, "pod": pod, "response": response}))


def test_a_broken_hop_at_which_nothing_was_seen_has_a_cause_and_a_fix(golden: Golden) -> None:
    golden(shown({}, "name"))


UNUSUAL: dict[str, tuple[str, Mapping[str, Any]]] = {
    "no pool": ("address", ADDRESS | {"pool": None}),
    "a pool that is full": ("address", ADDRESS | {"address": None, "pools": [POOL_EVIDENCE]}),
    "an address asked for": (
        "address",
        ADDRESS | {"requested": {"addresses": ["10.9.0.7"], "pool": None, "by": "metallb.io/loadBalancerIPs"}},
    ),
    "a pool asked for": (
        "address",
        ADDRESS | {"requested": {"addresses": [], "pool": "b", "by": "metallb.io/address-pool"}},
    ),
    "a shared address": ("address", ADDRESS | {"shared_with": ["default/x"]}),
    "an event": ("address", ADDRESS | {"event": {"reason": "AllocationFailed", "message": "no", "time": "12:00"}}),
    "no ARP answer": ("node", NODE | {"answers_arp": []}),
    "not asked": ("node", NODE | {"not_asked": "it is down"}),
    "a neighbour entry": ("node", NODE | {"remembered": {"mac": "x", "state": "STALE"}}),
    "a refused connection": ("node", NODE | {"connection": {"outcome": "refused", "reason": "No way"}}),
    "no EndpointSlice and no pod": ("pod", POD | {"endpoint_slices": [], "pods": []}),
    "an endpoint that is no pod": ("pod", POD | {"pods": [{"pod": None, "address": "192.168.56.1", "node": None}]}),
    "no answer": (
        "response",
        RESPONSE
        | {"status": None, "answered_by": None, "milliseconds": {"name": 2.1, "connect": 0.4, "first_byte": None}},
    ),
    "an answer of nobody": ("response", RESPONSE | {"status": 503, "answered_by": None}),
    "half a body": ("response", RESPONSE | {"body": {"state": "stopped", "bytes": 10, "expected": 615}}),
    "pods that differ": (
        "response",
        RESPONSE | {"pods": [{"pod": "my-app-1", "status": 200}, {"pod": "my-app-2", "status": None}]},
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_evidence_is_shown(name: str, golden: Golden) -> None:
    golden(shown({}, *UNUSUAL[name]))


def test_what_a_server_says_cannot_draw_on_the_terminal() -> None:
    forged = NAME | {"source": "line 1: \x1b[2J10.0.0.1\nmy-app.local"}

    assert "  │           line 1: 10.0.0.1 my-app.local\n" in shown(EVIDENCE | {"name": forged})


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_states_have_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: str, *, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = Terminal()

    ui.trace(traced({"name": NAME}, "address"), terminal)
    ok, broken, not_reached = (
        next(line for line in terminal.getvalue().splitlines() if hop in line) for hop in ("name", "address", "rule")
    )

    assert ("\x1b[32m" in ok, "\x1b[1;31m" in broken, "\x1b[2m" in not_reached) == (coloured,) * 3


def test_scripts_get_the_report_itself() -> None:
    stdout = io.StringIO()
    report = traced({"name": NAME}, "address")

    ui.document(report, "json", stdout, ui.trace)

    assert json.loads(stdout.getvalue()) == {"version": 1, **report}


def traced(seen: Mapping[str, Any], broken: str = "", evidence: Mapping[str, Any] | None = None) -> TraceReport:
    hops = [hop(name, seen, broken, evidence or {}) for name in EVIDENCE]
    return {"version": 1, "hostname": "my-app.local", "ok": not broken, "hops": hops}


def hop(name: str, seen: Mapping[str, Any], broken: str, evidence: Mapping[str, Any]) -> HopReport:
    if name == broken:
        return told(name, "no-answer", "it is [not]\nright", fix="Type this.", evidence=evidence)
    return told(name, evidence=seen[name]) if name in seen else told(name, state="not reached")


def shown(seen: Mapping[str, Any], broken: str = "", evidence: Mapping[str, Any] | None = None) -> str:
    stdout = io.StringIO()
    ui.trace(traced(seen, broken, evidence), stdout)
    return stdout.getvalue()


def test_what_was_opened_is_told_with_what_is_not_well_on_its_way(golden: Golden) -> None:
    warning = told("pod", "pod-not-ready", "one of two is not ready", state="warning", fix="Look at it.")
    screen = io.StringIO()
    ui.opened({"version": 1, "url": "http://my-app.local", "browser": "firefox", "warnings": [warning]}, screen)

    golden(screen.getvalue())
