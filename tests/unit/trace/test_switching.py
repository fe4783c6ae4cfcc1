"""Tests of what another ingress controller would reject or ignore: a table of Ingresses."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeCluster

from labctl.model.kinds import ROUTE, ROUTE_CLASS
from labctl.render.ingress import CONTROLLERS
from labctl.trace.rules.rules import ANNOTATION, CONTROLLER
from labctl.trace.rules.switching import lost_rules

NGINX, TRAEFIK = CONTROLLERS


def _ingress(name: str, host: str, class_name: str = "nginx", **notes: str) -> dict[str, Any]:
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": name}}}
    spec = {"ingressClassName": class_name, "rules": [{"host": host, "http": {"paths": [path]}}]}
    annotations = {ANNOTATION + key.replace("_", "-"): value for key, value in notes.items()}
    metadata = {"annotations": annotations, "creationTimestamp": f"2026-11-26T00:00:0{len(name)}Z"}
    return {"name": name, "metadata": metadata, "spec": spec}


PLAIN = _ingress("shop", "shop.test")
LOOSE = _ingress("other", "other.test")
LOOSE["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/a(.*)"
FOREIGN = _ingress("other", "other.test")
FOREIGN["metadata"]["annotations"] = {"example.com/my-snippet": "x"}


@pytest.mark.parametrize(
    ("ingresses", "by_nginx", "by_traefik"),
    [
        ([PLAIN], [], []),
        ([PLAIN, _ingress("other", "other.test", server_snippet="x")], ["default/other"], ["default/other"]),
        ([PLAIN, FOREIGN], ["default/other"], []),
        ([PLAIN, LOOSE], ["default/other"], ["default/other"]),
        ([PLAIN, _ingress("other", "other.test", proxy_ssl_secret="gone")], ["default/other"], []),  # noqa: S106 - a name
        ([PLAIN, _ingress("other", "shop.test")], ["default/other"], []),
        ([PLAIN, _ingress("other", "shop.test", "elsewhere", server_snippet="x")], [], []),
        ([PLAIN, _ingress("canary", "shop.test", canary="true")], [], []),
        ([PLAIN, _ingress("other", "other.test", satisfy="any")], [], ["default/other"]),
    ],
    ids=[
        "plain",
        "snippet",
        "snippet of another prefix",
        "path",
        "secret",
        "taken",
        "another class",
        "canary",
        "ignored annotation",
    ],
)
def test_ingresses_that_another_controller_serves_differently_are_named(
    ingresses: list[dict[str, Any]], by_nginx: list[str], by_traefik: list[str]
) -> None:
    cluster = FakeCluster()
    cluster.put(*ROUTE_CLASS, "nginx", spec={"controller": CONTROLLER})
    for each in ingresses:
        cluster.put(*ROUTE, each["name"], "default", metadata=each["metadata"], spec=each["spec"])

    for controller, expected in ((NGINX, by_nginx), (TRAEFIK, by_traefik)):
        lines = lost_rules(cluster, controller)
        assert [
            name for line in lines for name in ("default/shop", "default/other") if f"Ingress {name}:" in line
        ] == expected
        assert all(line.startswith(controller.name) for line in lines)
