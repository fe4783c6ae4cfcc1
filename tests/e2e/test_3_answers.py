"""`trace`, `status` and `up` agree with curl, and the commands that they print fix what is broken."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .reallab import LABCTL, RealLab, eventually, run

pytestmark = pytest.mark.e2e

HOSTS = Path("/etc/netns/labctl-e2e/hosts")
ADDRESS = "192.168.56.100"
APP = "my-app.local"
NOTE = "nginx.ingress.kubernetes.io/"
ANNOTATED = "kubernetes.io/ingress.class"
TRAEFIK = "docker.io/library/traefik:v3.7.15"
"""Answers 404 to every request, and does not log it."""
CANARY_SECONDS = 20.0


def _ingress(name: str, hosts: dict[str, tuple[str, str, str]], **annotations: str) -> dict[str, Any]:
    """Return an Ingress with a path, its type and a Service for each host."""
    rules = [
        {
            "host": host,
            "http": {
                "paths": [
                    {
                        "path": path,
                        "pathType": kind,
                        "backend": {"service": {"name": service, "port": {"number": 80}}},
                    }
                ]
            },
        }
        for host, (path, kind, service) in hosts.items()
    ]
    by_annotation = ANNOTATED in annotations
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {**({} if by_annotation else {"ingressClassName": "nginx"}), "rules": rules},
    }


def _deployment(name: str, *containers: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}},
        },
    }


def _service(name: str, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any spec of a Service
    ports = {"ports": [{"name": "http", "port": 80, "targetPort": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**ports, **spec}}


PREFIX = ("/", "Prefix", "my-app")
REGEX = ("/a[0-9]+", "ImplementationSpecific", "my-app")
OBJECTS = (
    _deployment(
        "two",
        {"name": "app", "image": TRAEFIK, "args": ["--entrypoints.web.address=:80", "--ping", "--ping.entrypoint=web"]},
        {"name": "sidecar", "image": "labctl.local/pause:1.0"},
    ),
    _service("two", clusterIP="None", selector={"app": "two"}),
    _ingress(
        "by-annotation", {"class.lab.test": PREFIX}, **{ANNOTATED: "nginx", f"{NOTE}server-alias": "alias.lab.test"}
    ),
    _ingress("wild", {"*.wild.test": REGEX}, **{f"{NOTE}use-regex": "true"}),
    _ingress("two", {"two.lab.test": ("/", "Prefix", "two")}),
    {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "six", "namespace": "metallb-system"},
        "spec": {"addresses": ["fd00::/64", "fd01::1-fd01::9", "10.9.0.0/30"], "autoAssign": False},
    },
)
SAMPLES = {
    "a hostname in any case": ("My-App.LOCAL", 200, "default/my-app", None),
    "a class by annotation": ("class.lab.test", 200, "default/by-annotation", None),
    "an alias": ("alias.lab.test", 200, "default/by-annotation", None),
    "a wildcard and a regular expression": ("http://x.wild.test/A12", 404, "default/wild", None),
    "a path that no rule has": ("http://x.wild.test/b", 404, None, "ingress-path-missing"),
    "a headless Service, two containers, no header": ("two.lab.test", 404, "default/two", None),
}
"""Each with the status that curl gets, the Ingress that matches, and the cause if the app does not answer."""


@pytest.fixture(scope="module")
def served(lab: RealLab) -> Iterator[RealLab]:
    """Yield a lab with Ingresses that labctl did not create, whose names are added to the hosts file."""
    file = lab.state_home / "answers.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}), encoding="utf-8")
    before = HOSTS.read_bytes()
    lab.kubectl("apply", "-f", str(file))
    try:
        lab.kubectl("rollout", "status", "deployment/two", "--timeout=50s")
        names = ("alias.lab.test", "x.wild.test", "two.lab.test")
        HOSTS.write_bytes(before + "".join(f"{ADDRESS} {name}\n" for name in names).encode())
        eventually(lambda: lab.page("http://two.lab.test/ping")[0], lambda status: status == 200)
        yield lab
    finally:
        HOSTS.write_bytes(before)
        lab.kubectl("delete", "-f", str(file), "--wait=false")


def test_a_printed_command_adds_a_hostname_that_hosts_sync_does_not_write(served: RealLab) -> None:
    name = _trace(served, "class.lab.test", code=8)["hops"][0]
    [command] = name["commands"]
    run("sh", "-c", command)

    assert name["cause"] == "hosts-entry-missing"
    assert _trace(served, "class.lab.test")["ok"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_trace_agrees_with_curl(served: RealLab, sample: str) -> None:
    target, status, ingress, cause = SAMPLES[sample]
    trace = _trace(served, target, code=8 if cause else 0)
    rule, response = trace["hops"][3], trace["hops"][5]

    assert served.page(target if "://" in target else f"http://{target}")[0] == status
    assert rule["cause"] == cause
    if cause is None:
        pods = {each["pod"] for each in trace["hops"][4]["evidence"]["pods"]}
        assert (rule["evidence"]["ingress"], response["evidence"]["status"]) == (ingress, status)
        assert response["evidence"]["answered_by"] in pods
        assert {each["pod"] for each in response["evidence"]["pods"]} == pods


def test_a_canary_is_named_and_the_pods_are_those_that_responded(served: RealLab) -> None:
    canary = _ingress(
        "canary", {APP: ("/", "Prefix", "two")}, **{f"{NOTE}canary": "true", f"{NOTE}canary-weight": "100"}
    )
    canary["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"number": 80}
    file = served.state_home / "canary.json"
    file.write_text(json.dumps(canary), encoding="utf-8")
    served.kubectl("apply", "-f", str(file))
    try:
        to_canary = eventually(lambda: _trace(served), lambda trace: _pod(trace).startswith("two-"), CANARY_SECONDS)
        served.kubectl("annotate", "ingress", "canary", f"{NOTE}canary-weight=0", "--overwrite")
        to_app = eventually(lambda: _trace(served), lambda trace: _pod(trace).startswith("my-app-"), CANARY_SECONDS)
    finally:
        served.kubectl("delete", "-f", str(file))

    for trace, ingress, service, weight in (
        (to_canary, "default/canary", "two", 100),
        (to_app, "default/my-app", "my-app", 0),
    ):
        rule, pod = trace["hops"][3]["evidence"], trace["hops"][4]["evidence"]
        assert (rule["ingress"], rule["split"]["service"], rule["split"]["weight"]) == (ingress, "two", weight)
        assert pod["service"] == service
        assert _pod(trace) in {each["pod"] for each in pod["pods"]}


def test_a_redirect_to_a_closed_port_is_broken_and_the_printed_command_fixes_it(lab: RealLab) -> None:
    lab.kubectl("patch", "ingress", "my-app", "--type=merge", "-p", f'{{"spec": {{"tls": [{{"hosts": ["{APP}"]}}]}}}}')
    try:
        eventually(lambda: lab.page(f"http://{APP}")[0], lambda status: status == 308)
        response = _trace(lab, code=8)["hops"][5]
        status, refused = lab.status(code=8), lab.up("--only", "verify", code=6).result()

        assert (response["state"], response["cause"]) == ("broken", "redirect-leads-nowhere")
        assert [problem["id"] for problem in status["problems"]] == ["redirect-leads-nowhere"]
        assert refused["error"]["id"] == "redirect-leads-nowhere"
        assert refused["seconds"] < 30
        _run_commands(lab, response["commands"])
        assert eventually(lambda: _trace(lab, code=None), lambda trace: trace["ok"])
    finally:
        lab.kubectl("patch", "ingress", "my-app", "--type=merge", "-p", '{"spec": {"tls": null}}')


def test_a_response_of_another_server_is_broken_and_the_printed_command_fixes_it(lab: RealLab, tmp_path: Path) -> None:
    before = HOSTS.read_bytes()
    HOSTS.write_bytes(f"127.0.0.1 localhost {APP}\n".encode() + before)
    with _another_server(lab, tmp_path):
        try:
            assert lab.page(f"http://{APP}")[0] == 200
            name = _trace(lab, code=8)["hops"][0]
            status, refused = lab.status(code=8), lab.up("--only", "verify", code=6).result()

            [other] = name["evidence"]["others"]
            assert (name["cause"], other["address"]) == ("hosts-entry-shadowed", "127.0.0.1")
            assert other["source"].startswith(f"{HOSTS}, line 1:")
            assert other["connection"] == "connected"
            assert [problem["id"] for problem in status["problems"]] == ["hosts-entry-shadowed"]
            assert status["apps"][0]["http"] is None
            assert refused["error"]["id"] == "hosts-entry-shadowed"
            _run_commands(lab, name["commands"])
            assert HOSTS.read_bytes() == b"127.0.0.1 localhost\n" + before
            assert lab.status()["ok"]
        finally:
            HOSTS.write_bytes(before)


def test_a_missing_name_does_not_prevent_reaching_the_app(lab: RealLab) -> None:
    lab.labctl("hosts", "remove")
    try:
        result, status, name = lab.up("--only", "verify").result(), lab.status(code=8), _trace(lab, code=8)["hops"][0]

        assert result["ok"]
        assert [problem["id"] for problem in status["problems"]] == ["hosts-entry-missing"]
        assert status["apps"][0]["http"] == 200
        assert name["evidence"]["line"] == f"{ADDRESS} {APP}"
    finally:
        _run_commands(lab, ["labctl --name e2e hosts sync"])
    assert lab.status()["ok"]


def test_an_app_that_responds_with_404_is_reached(lab: RealLab, tmp_path: Path) -> None:
    file = tmp_path / "labctl.yaml"
    file.write_text("name: e2e\napps:\n  - name: my-app\n", encoding="utf-8")
    command = ("--config", str(file), "-o", "json", "app")
    try:
        added = lab.labctl(*command, "add", "api", "--image", TRAEFIK, seconds=120).events()
        apps = {app["name"]: app["http"] for app in lab.status()["apps"]}

        assert added[-1]["ok"]
        assert apps == {"my-app": 200, "api": 404}
    finally:
        lab.labctl(*command, "remove", "api", seconds=120)


@pytest.mark.parametrize("target", ["a..b", "a" * 64 + ".local", f"{APP}:80", "caf\u00e9.local", f"https://{APP}/"])
def test_an_invalid_hostname_is_an_error(lab: RealLab, target: str) -> None:
    refused = lab.labctl("trace", "-o", "json", target, code=2).document()["error"]

    assert refused["id"] in {"hostname-invalid", "url-invalid"}
    assert refused["hint"]


def _trace(lab: RealLab, target: str = APP, code: int | None = 0) -> Any:  # noqa: ANN401 - JSON
    return lab.labctl("trace", "-o", "json", target, code=code).document()


def _pod(trace: Any) -> str:  # noqa: ANN401 - JSON
    return str(trace["hops"][5]["evidence"].get("answered_by") or "")


def _run_commands(lab: RealLab, commands: list[str]) -> None:
    """Run commands as they are printed, with `labctl` on PATH."""
    environment = lab.full_environment()
    path = f"{LABCTL.parent}{os.pathsep}{environment['PATH']}"
    for command in commands:
        subprocess.run(["sh", "-c", command], env={**environment, "PATH": path}, check=True, timeout=60)


@contextmanager
def _another_server(lab: RealLab, folder: Path) -> Iterator[None]:
    """Run a foreign web server at 127.0.0.1 in the lab's network during the block."""
    line = [*lab.enter_command, "python3", "-m", "http.server", "80", "--bind", "127.0.0.1"]
    with subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: lab.page("http://127.0.0.1/")[0], lambda status: status == 200, seconds=20)
            yield
        finally:
            server.terminate()
