"""Tests of reading both ingress controllers' access logs."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fakes import FakeCluster

from labctl.context import Context
from labctl.model.errors import RefusedError
from labctl.render.ingress import CONTROLLERS
from labctl.trace.backend import log_sources
from labctl.trace.probes import access_log
from labctl.trace.probes.access_log import LogSearch, Record, parse, search
from labctl.trace.probes.client import Client
from labctl.trace.probes.exchange import Exchange
from labctl.trace.trail import Trail

TRAEFIK = (
    '192.168.56.1 - - [26/Nov/2026:00:11:40 +0000] "GET / HTTP/1.1" {} 615 "-" "labctl-trace-f6e1c477" 3 "{}" "{}" 1ms'
)
NGINX = (
    '192.168.56.1 - - [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" {} 615 "-" "labctl-trace-f6e1c477" 120 0.002 '
    "[{}] [{}] {} 5a2f4b0c9d8e7f6a5b4c3d2e1f0a9b8c"
)
MARK = "labctl-trace-f6e1c477"
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
ROUTER = "default-my-app-rule-0-path-0@kubernetesingressnginx"


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (TRAEFIK.format(200, ROUTER, "http://10.244.1.5:80"), Record("c", ROUTER, "", "10.244.1.5", 80, 200)),
        (TRAEFIK.format(499, ROUTER, "http://10.244.1.5:80"), Record("c", ROUTER, "", "10.244.1.5", 80, 499)),
        (TRAEFIK.format("-", ROUTER, "-"), Record("c", ROUTER, "", "")),
        (TRAEFIK.format(404, "-", "-"), Record("c", "", "", "", 0, 404)),
        (TRAEFIK.format(200, ROUTER, "http://[fd00::5]:8080"), Record("c", ROUTER, "", "fd00::5", 8080, 200)),
        (TRAEFIK.format(200, ROUTER, "http://example.com:80"), Record("c", ROUTER, "", "example.com", 80, 200)),
        (
            NGINX.format(200, "default-my-app-http", "", "10.244.1.5:80 615 0.001 200"),
            Record("c", "", "default-my-app-http", "10.244.1.5", 80, 200),
        ),
        (
            NGINX.format(200, "default-my-app-http", "", "10.244.0.5:80, 10.244.1.5:80 0, 615 0.000, 0.001 502, 200"),
            Record("c", "", "default-my-app-http", "10.244.1.5", 80, 200, ("10.244.0.5",)),
        ),
        (
            NGINX.format(200, "default-my-app-http", "default-canary-http", "10.244.1.9:80 615 0.001 200"),
            Record("c", "", "default-canary-http", "10.244.1.9", 80, 200),
        ),
        (NGINX.format(308, "default-my-app-http", "", "- - - -"), Record("c", "", "default-my-app-http", "", 0, 308)),
        (
            NGINX.format(404, "upstream-default-backend", "", "127.0.0.1:8181 146 0.000 404"),
            Record("c", "", "upstream-default-backend", "", 0, 404),
        ),
        (
            NGINX.format(503, "default-my-app-http", "", "10.244.1.5:80 : 10.244.1.9:80 9 : 9 0.1 : 0.1 503 : 503"),
            Record("c", "", "default-my-app-http", "10.244.1.5", 80, 503),
        ),
        ("a line of something else with labctl-trace-f6e1c477 in it", None),
        ("", None),
    ],
)
def test_the_rule_and_the_backend_of_a_request_are_parsed_from_a_log_line(line: str, record: Record | None) -> None:
    assert parse(line, "c") == record
    assert parse(line + "\n", "c") == record


def test_requests_are_searched_in_the_logs_of_all_pods(cluster: FakeCluster) -> None:
    pods = [{"pod": "a"}, {"pod": "b"}]
    cluster.logs["ns", "a"] = f"starting\n{TRAEFIK.format(404, '-', '-').replace(MARK, 'labctl-trace-1')}\n"
    cluster.logs["ns", "b"] = f"starting\n{TRAEFIK.format(200, ROUTER, 'http://10.244.1.5:80')}\n"
    expected = Record("b", ROUTER, "", "10.244.1.5", 80, 200)

    assert search(cluster, "ns", pods, [MARK], 0) == LogSearch({MARK: expected})
    assert search(cluster, "ns", pods, ["labctl-trace-0"], 0) == LogSearch({}, is_complete=True)
    assert search(cluster, "ns", pods, [MARK, "labctl-trace-1", "labctl-trace-0"], 0) == LogSearch(
        {MARK: expected, "labctl-trace-1": Record("a", "", "", "", 0, 404)}
    )


def test_logs_of_possible_pods_are_read_starting_with_the_one_on_the_announcing_node() -> None:
    controller = CONTROLLERS[0]
    two_containers = {"containers": [{"name": "proxy"}, {"name": "web", "args": [controller.publish_argument]}]}
    pods: list[dict[str, Any]] = [
        {"metadata": {"name": name}, "spec": {"nodeName": node, **spec}, "status": status}
        for name, node, spec, status in (
            ("gone", "a", {}, {}),
            ("other", "b", two_containers, READY),
            ("ending", "c", {}, {}),
        )
    ]

    assert log_sources(controller, pods, "c") == [
        {"pod": "ending", "container": ""},
        {"pod": "other", "container": "web"},
    ]
    assert [each["pod"] for each in log_sources(controller, pods[:1], "b")] == ["gone"]


def test_a_backend_is_formatted_with_its_port() -> None:
    assert Record("c", ROUTER, "", "fd00::5", 80).upstream_address == "[fd00::5]:80"
    assert Record("c", ROUTER, "", "10.244.1.5", 80).upstream_address == "10.244.1.5:80"
    assert Record("c", ROUTER, "", "").upstream_address == ""


def test_a_late_log_line_is_waited_for(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    line = TRAEFIK.format(200, ROUTER, "http://10.244.1.5:80")
    monkeypatch.setattr(time, "sleep", lambda _seconds: cluster.logs.update({("ns", "a"): line}))

    assert search(cluster, "ns", [{"pod": "a"}], [MARK], 60).records


@pytest.mark.parametrize(
    "line", [f'{{"agent": "{MARK}", "status": 200}}', f"GET / {MARK}"], ids=["JSON", "another format"]
)
def test_an_unknown_log_format_makes_the_search_incomplete(cluster: FakeCluster, line: str) -> None:
    cluster.logs["ns", "a"] = line

    assert search(cluster, "ns", [{"pod": "a"}], [MARK], 0) == LogSearch({}, is_complete=False)


def test_an_unreadable_log_makes_the_search_incomplete(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> str:
        raise RefusedError("no", id="kubernetes-refused")

    monkeypatch.setattr(cluster, "log", refuse)

    assert search(cluster, "ns", [{"pod": "a"}], ["mark"], 60) == LogSearch({}, is_complete=False)


@pytest.mark.parametrize("seconds", [0.2, 60.0])
def test_a_search_with_too_little_time_is_incomplete(
    context: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(access_log, "search", lambda *_arguments: LogSearch())
    trail = Trail(context, Client(), "my-app.local", "/", cluster, _end=time.monotonic() + seconds)

    result = trail.search(Exchange(200, None, MARK, "", "", {"connect": 0.001}))

    assert result.is_complete is (seconds > context.lab.limits.trace_log)


def test_a_short_search_after_a_full_one_is_complete(
    context: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "search", lambda *_arguments: LogSearch())
    trail = Trail(context, Client(), "my-app.local", "/", cluster, _end=time.monotonic() + 60)
    exchange = Exchange(200, None, MARK, "", "", {"connect": 0.001})
    trail.search(exchange)
    trail._end = time.monotonic()

    assert trail.search(exchange).is_complete
