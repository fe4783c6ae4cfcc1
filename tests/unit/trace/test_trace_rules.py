"""Tests of which rule matches a request in Traefik's ingress-nginx provider and in ingress-nginx."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeCluster

from labctl.model.kinds import ROUTE, ROUTE_CLASS
from labctl.render.ingress import CONTROLLERS
from labctl.trace.probes.access_log import Record
from labctl.trace.rules import rules
from labctl.trace.rules.rules import ANNOTATION, CLASS_ANNOTATION, Match, Rules

HOST = "my-app.local"
BY_NAME = {controller.name: controller for controller in CONTROLLERS}


class Api:
    """A cluster with Ingresses, each named after its Service."""

    def __init__(self, *, has_class: bool = True, controller: str = "traefik") -> None:
        self.cluster = FakeCluster()
        self.controller = BY_NAME[controller]
        if has_class:
            self.cluster.put(*ROUTE_CLASS, "nginx", spec={"controller": rules.CONTROLLER})
            self.cluster.put(*ROUTE_CLASS, "alias", spec={"controller": rules.CONTROLLER})
            self.cluster.put(*ROUTE_CLASS, "other", spec={"controller": "example.com/other"})

    def ingress(
        self,
        name: str,
        host: str | None = HOST,
        path: str | None = "/",
        path_type: str = "Prefix",
        *,
        class_name: str | None = "nginx",
        default: str = "",
        notes: dict[str, str] | None = None,
    ) -> Api:
        backend = {"service": {"name": name, "port": {"name": "http"}}}
        entry = {"backend": backend, "pathType": path_type, **({} if path is None else {"path": path})}
        rule: dict[str, Any] = {"http": {"paths": [entry]}, **({} if host is None else {"host": host})}
        spec: dict[str, Any] = {"rules": [rule]} if path is not None or not default else {}
        if default:
            spec["defaultBackend"] = {"service": {"name": default, "port": {"number": 80}}}
        if class_name:
            spec["ingressClassName"] = class_name
        annotations = {key if "/" in key else ANNOTATION + key: value for key, value in (notes or {}).items()}
        created = f"2026-11-26T00:00:{len(self.cluster.objects):02}Z"
        metadata = {"annotations": annotations, "creationTimestamp": created}
        self.cluster.put(*ROUTE, name, "default", metadata=metadata, spec=spec)
        return self

    def read(self, hostname: str = HOST) -> Rules:
        return rules.read(self.cluster, self.controller, hostname)

    def match(self, path: str = "/", record: Record | None = None, hostname: str = HOST) -> Match | None:
        return self.read(hostname).match(path, record)

    def service(self, path: str = "/", record: Record | None = None, hostname: str = HOST) -> str | None:
        match = self.match(path, record, hostname)
        return match.route.backend.service if match else None


def with_service(api: Api, ingress: str, service: str) -> None:
    [rule] = api.cluster.objects[*ROUTE, "default", ingress]["spec"]["rules"]
    rule["http"]["paths"][0]["backend"]["service"]["name"] = service


@pytest.mark.parametrize(
    ("hosts", "chosen", "matched_by"),
    [
        ([None, "*.local", HOST], HOST, "host"),
        ([None, "*.local"], "*.local", "wildcard"),
        ([None, "local"], "*", "any host"),
        (["*.my-app.local", "*.example", None], "*", "any host"),
        (["*.local", "MY-APP.local"], "MY-APP.local", "host"),
    ],
)
def test_the_rule_with_the_most_specific_host_matches(hosts: list[str | None], chosen: str, matched_by: str) -> None:
    api = Api()
    for number, host in enumerate(hosts):
        api.ingress(f"app-{number}", host)
    match = api.match()

    assert match
    assert (match.route.host, match.route.matched_by) == (chosen, matched_by)


@pytest.mark.parametrize(
    ("class_name", "notes", "has_class", "is_served"),
    [
        ("nginx", {}, True, True),
        ("alias", {}, True, True),
        ("other", {}, True, False),
        ("gone", {}, True, False),
        (None, {CLASS_ANNOTATION: "nginx"}, True, True),
        (None, {CLASS_ANNOTATION: "other"}, True, False),
        (None, {}, True, False),
        ("nginx", {CLASS_ANNOTATION: "other"}, True, True),
        ("nginx", {}, False, False),
        (None, {CLASS_ANNOTATION: "nginx"}, False, True),
    ],
)
def test_the_class_is_read_from_the_field_or_the_annotation(
    class_name: str | None,
    notes: dict[str, str],
    has_class: bool,  # noqa: FBT001 - a column of the table
    is_served: bool,  # noqa: FBT001 - the same
) -> None:
    api = Api(has_class=has_class).ingress("app", class_name=class_name, notes=notes)
    ingress_rules = api.read()

    assert bool(ingress_rules.served) is is_served
    assert bool(ingress_rules.foreign) is not is_served


@pytest.mark.parametrize(
    ("path", "path_type", "notes", "requested", "is_matched"),
    [
        ("/", "Prefix", {}, "/a/b", True),
        ("/shop", "Prefix", {}, "/shop", True),
        ("/shop", "Prefix", {}, "/shop/1", True),
        ("/shop/", "Prefix", {}, "/shop", True),
        ("/shop", "Prefix", {}, "/shopping", False),
        ("/shop", "ImplementationSpecific", {}, "/shop/1", True),
        ("/shop", "Exact", {}, "/shop", True),
        ("/shop", "Exact", {}, "/shop/", False),
        ("/shop", "Exact", {}, "/shop?a=b", True),
        ("/a[0-9]+", "ImplementationSpecific", {"use-regex": "true"}, "/A17/x", True),
        ("/a[0-9]+", "ImplementationSpecific", {"use-regex": "true"}, "/ab", False),
        ("/a[0-9]+", "ImplementationSpecific", {}, "/a17", False),
        ("/a(.*)", "ImplementationSpecific", {"rewrite-target": "/$1"}, "/a17", True),
        ("/a(", "ImplementationSpecific", {"use-regex": "true"}, "/a(", False),
    ],
)
def test_a_path_matches_as_in_both_controllers(
    path: str,
    path_type: str,
    notes: dict[str, str],
    requested: str,
    is_matched: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert (Api().ingress("app", HOST, path, path_type, notes=notes).service(requested) == "app") is is_matched


@pytest.mark.parametrize(
    ("controller", "path", "winner"),
    [
        ("traefik", "/", "root"),
        ("traefik", "/a", "a"),  # the rule of a prefix is longer than that of the exact path
        ("traefik", "/a/", "a"),
        ("traefik", "/a/b/c", "wide"),  # the longest rule wins, however specific its host is
        ("traefik", "/b", "root"),
        ("ingress-nginx", "/a", "exact"),
        ("ingress-nginx", "/a/", "a"),
        ("ingress-nginx", "/a/b/c", "a"),
        ("ingress-nginx", "/b", "root"),
    ],
)
def test_the_matching_rule_depends_on_the_controller(controller: str, path: str, winner: str) -> None:
    api = Api(controller=controller).ingress("root").ingress("a", HOST, "/a")
    api.ingress("exact", HOST, "/a", "Exact").ingress(
        "wide", "*.local", "/a/b/c/of-a-wildcard/../..".partition("/of")[0]
    )

    assert api.service(path) == winner


def test_a_host_without_the_path_hides_the_wildcard_from_ingress_nginx_only() -> None:
    for controller, winner in (("traefik", "wide"), ("ingress-nginx", None)):
        api = Api(controller=controller).ingress("app", HOST, "/a").ingress("wide", "*.local")

        assert api.service("/b") == winner


@pytest.mark.parametrize(("controller", "is_decided"), [("traefik", False), ("ingress-nginx", True)])
def test_the_same_rule_in_another_ingress_is_a_rival(controller: str, is_decided: bool) -> None:  # noqa: FBT001 - a column of the table
    match = Api(controller=controller).ingress("old").ingress("new").ingress("elsewhere", HOST, "/x").match()

    assert match
    assert (match.route.ingress, match.is_settled) == ("default/old", is_decided)
    assert [rival.ingress for rival in match.rivals] == ["default/new"]


def test_the_same_rule_to_the_same_service_is_not_a_rival() -> None:
    api = Api().ingress("app").ingress("copy")
    [backend] = [
        path["backend"] for path in api.cluster.objects[*ROUTE, "default", "copy"]["spec"]["rules"][0]["http"]["paths"]
    ]
    backend["service"]["name"] = "app"
    match = api.match()

    assert match
    assert match.rivals == ()


def test_a_default_backend_matches_paths_without_a_rule() -> None:
    api = Api().ingress("app", HOST, "/a", default="rest").ingress("all", None, None, default="anything")

    assert [api.service(path) for path in ("/a", "/b")] == ["app", "rest"]
    assert api.service(hostname="unknown.test") == "anything"


@pytest.mark.parametrize(
    ("notes", "weight", "total", "by"),
    [
        ({"canary-weight": "30"}, 30, 100, ()),
        ({"canary-weight": "30", "canary-weight-total": "1000"}, 30, 1000, ()),
        ({"canary-weight": "300"}, 100, 100, ()),
        ({"canary-weight": "-1"}, 0, 100, ()),
        ({"canary-by-header": "x-canary", "canary-by-cookie": "c"}, 0, 100, ("x-canary", "c")),
    ],
)
def test_a_canary_is_a_split_of_another_rule(
    notes: dict[str, str], weight: int, total: int, by: tuple[str, ...]
) -> None:
    match = Api().ingress("canary", notes={"canary": "true", **notes}).ingress("stable").match()

    assert match
    assert match.route.backend.service == "stable"
    assert match.split
    assert (match.split.backend.service, match.split.weight, match.split.total) == ("canary", weight, total)
    assert match.split.by == by


def test_other_ingresses_of_the_host_are_named() -> None:
    match = Api().ingress("app").ingress("wide", "*.local").match()

    assert match
    assert match.others == ("default/wide",)


def test_a_canary_applies_to_every_path_to_the_same_service() -> None:
    api = Api().ingress("stable").ingress("canary", notes={"canary": "true", "canary-weight": "10"})
    spec = api.cluster.objects[*ROUTE, "default", "stable"]["spec"]
    spec["rules"][0]["http"]["paths"].append({**spec["rules"][0]["http"]["paths"][0], "path": "/shop"})
    match = api.match("/shop")

    assert match
    assert match.split
    assert match.split.ingress == "default/canary"


@pytest.mark.parametrize(
    ("notes", "path", "path_type", "reason"),
    [
        ({"configuration-snippet": "return 200;"}, "/", "Prefix", "snippet"),
        ({"server-snippet": "return 200;"}, "/", "Prefix", "snippet"),
        ({}, "/a(.*)", "Prefix", "pathType"),
        ({"ssl-passthrough": "true"}, "/", "Prefix", "ssl-passthrough"),
        ({"auth-type": "basic"}, "/", "Prefix", "auth-secret"),
        ({"auth-type": "ldap", "auth-secret": "users"}, "/", "Prefix", "auth-type"),
        ({"auth-type": "basic", "auth-secret": "gone"}, "/", "Prefix", "Secret gone"),
        ({"auth-type": "basic", "auth-secret": "other/users"}, "/", "Prefix", "namespace other"),
        ({"auth-tls-secret": "default/gone"}, "/", "Prefix", "auth-tls-secret"),
        ({"proxy-ssl-secret": "default/gone", "backend-protocol": "HTTPS"}, "/", "Prefix", "proxy-ssl-secret"),
        ({"custom-headers": "default/gone"}, "/", "Prefix", "ConfigMap"),
        ({"custom-headers": "default/headers"}, "/", "Prefix", "does not allow"),
    ],
)
def test_traefik_does_not_serve_ingresses_that_it_refuses(
    notes: dict[str, str], path: str, path_type: str, reason: str
) -> None:
    api = Api()
    api.cluster.put("v1", "ConfigMap", "headers", "default", data={"X-Frame-Options": "DENY"})
    ingress_rules = api.ingress("app", HOST, path, path_type, notes=notes).read()

    assert ingress_rules.served == ()
    [(ingress, refusal)] = ingress_rules.refused
    assert ingress == "default/app"
    assert reason in refusal.reason
    assert refusal.remove or refusal.loose_paths


@pytest.mark.parametrize(
    ("notes", "reason"),
    [
        ({"configuration-snippet": "return 200;"}, "snippet"),
        ({"modsecurity-snippet": "SecRuleEngine On"}, "snippet"),
        ({"auth-type": "basic", "auth-secret": "gone"}, "Secret gone"),
        ({"auth-tls-secret": "default/gone"}, "auth-tls-secret"),
        ({"proxy-ssl-secret": "default/gone"}, "proxy-ssl-secret"),
        ({"custom-headers": "default/gone"}, "ConfigMap"),
        ({"ssl-passthrough": "true"}, ""),
        ({"auth-url": "http://auth.test"}, ""),
    ],
)
def test_ingress_nginx_does_not_serve_ingresses_that_bypassed_its_webhook(notes: dict[str, str], reason: str) -> None:
    ingress_rules = Api(controller="ingress-nginx").ingress("app", notes=notes).read()

    assert bool(ingress_rules.served) is not bool(reason)
    assert [reason in refusal.reason for _, refusal in ingress_rules.refused] == ([True] if reason else [])


@pytest.mark.parametrize(
    ("notes", "path", "path_type"),
    [
        ({"configuration-snippet": ""}, "/", "Prefix"),
        ({}, "/a(.*)", "ImplementationSpecific"),
        ({"ssl-passthrough": "false"}, "/", "Prefix"),
        ({"auth-type": "basic", "auth-secret": "users"}, "/", "Prefix"),
        ({"auth-type": "basic", "auth-secret": "default/users"}, "/", "Prefix"),
        ({"proxy-ssl-secret": "default/gone"}, "/", "Prefix"),
        ({"custom-headers": "default/none"}, "/", "Prefix"),
    ],
)
def test_ingresses_that_traefik_serves_are_not_refused(notes: dict[str, str], path: str, path_type: str) -> None:
    api = Api()
    api.cluster.put("v1", "Secret", "users", "default")
    api.cluster.put("v1", "ConfigMap", "none", "default")
    ingress_rules = api.ingress("app", HOST, path, path_type, notes=notes).read()

    assert ingress_rules.refused == ()
    assert ingress_rules.served


def test_a_path_without_a_service_backend_is_ignored() -> None:
    api = Api().ingress("app")
    resource = {"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "files"}}
    api.cluster.objects[*ROUTE, "default", "app"]["spec"]["rules"][0]["http"]["paths"][0]["backend"] = resource

    assert api.match() is None


@pytest.mark.parametrize(
    ("controller", "ignored"),
    [("traefik", ("mirror-target", "rewrite-traget")), ("ingress-nginx", ("rewrite-traget",))],
)
def test_annotations_unknown_to_the_controller_are_named(controller: str, ignored: tuple[str, ...]) -> None:
    notes = {"mirror-target": "http://copy", "rewrite-traget": "/", "app-root": "/home", "example.com/other": "x"}
    match = Api(controller=controller).ingress("app", notes=notes).match()

    assert match
    assert match.ignored == ignored
    assert match.notes["app-root"] == "/home"


def test_a_canary_alone_or_for_another_path_gets_no_requests() -> None:
    canary = {"canary": "true", "canary-weight": "100"}
    assert Api().ingress("canary", notes=canary).match() is None

    match = Api().ingress("stable").ingress("canary", HOST, "/other", notes=canary).match()
    assert match
    assert match.split is None


@pytest.mark.parametrize("controller", ["traefik", "ingress-nginx"])
def test_a_canary_that_the_controller_refuses_gets_no_requests(controller: str) -> None:
    notes = {"canary": "true", "canary-weight": "100", "configuration-snippet": "return 200;"}
    match = Api(controller=controller).ingress("stable").ingress("canary", notes=notes).match()

    assert match
    assert match.split is None


def test_a_canary_applies_to_every_host_of_its_service() -> None:
    for controller in ("traefik", "ingress-nginx"):
        api = (
            Api(controller=controller).ingress("stable").ingress("other", "other.test").ingress("canary", "other.test")
        )
        ingress = api.cluster.objects[*ROUTE, "default", "canary"]
        ingress["metadata"]["annotations"] = {f"{ANNOTATION}canary": "true", f"{ANNOTATION}canary-weight": "50"}
        with_service(api, "other", "stable")
        match = api.match()

        assert match
        assert match.split
        assert match.split.ingress == "default/canary"


def test_ingress_nginx_treats_a_canary_to_the_service_of_an_older_ingress_as_a_plain_rule() -> None:
    canary = {"canary": "true", "canary-weight": "50"}
    for controller, has_split, rivals in (("traefik", True, 0), ("ingress-nginx", False, 1)):
        api = Api(controller=controller).ingress("own", "elsewhere.test").ingress("stable").ingress("new", notes=canary)
        with_service(api, "new", "own")
        match = api.match()

        assert match
        assert match.route.backend.service == "stable"
        assert bool(match.split) is has_split
        assert len(match.rivals) == rivals


@pytest.mark.parametrize(
    ("record", "service"),
    [
        (Record("c", "default-second-rule-0-path-0@kubernetesingressnginx", "", "10.0.0.1"), "second"),
        (Record("c", "web-default-second-rule-0-path-0@kubernetesingressnginx", "", "10.0.0.1"), "second"),
        (Record("c", "default-second-rule-0-path-0-canary@kubernetesingressnginx", "", "10.0.0.1"), "second"),
        (Record("c", "default-second-rule-0-path-01@kubernetesingressnginx", "", "10.0.0.1"), "first"),
        (Record("c", "", "default-second-http", "10.0.0.1"), "second"),
        (Record("c", "", "", ""), "first"),
        (None, "first"),
    ],
)
def test_the_rule_named_in_the_controllers_log_matches(record: Record | None, service: str) -> None:
    assert Api().ingress("first").ingress("second").service(record=record) == service
