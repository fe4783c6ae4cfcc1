"""Which rule takes a request, as Traefik's ingress-nginx provider and ingress-nginx read Ingresses: tables."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeCluster

from labctl.ingress import CONTROLLERS
from labctl.trace import rules
from labctl.trace.access_log import Record
from labctl.trace.rules import ANNOTATION, API, CLASS_ANNOTATION, Match

HOST = "my-app.local"
TRAEFIK = next(controller for controller in CONTROLLERS if controller.name == "traefik")


class Api:
    """A cluster with Ingresses, each named after its Service."""

    def __init__(self, *, has_class: bool = True) -> None:
        self.cluster = FakeCluster()
        if has_class:
            self.cluster.put(API, "IngressClass", "nginx", spec={"controller": rules.CONTROLLER})
            self.cluster.put(API, "IngressClass", "alias", spec={"controller": rules.CONTROLLER})
            self.cluster.put(API, "IngressClass", "other", spec={"controller": "example.com/other"})

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
        self.cluster.put(API, "Ingress", name, "default", metadata={"annotations": annotations}, spec=spec)
        return self

    def match(self, path: str = "/", record: Record | None = None, hostname: str = HOST) -> Match | None:
        return rules.read(self.cluster, TRAEFIK, hostname).match(path, record)

    def service(self, path: str = "/", record: Record | None = None, hostname: str = HOST) -> str | None:
        match = self.match(path, record, hostname)
        return match.route.backend.service if match else None


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
def test_the_rule_that_says_most_of_the_name_is_the_one(hosts: list[str | None], chosen: str, matched_by: str) -> None:
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
        ("nginx", {}, False, True),
        (None, {CLASS_ANNOTATION: "nginx"}, False, True),
    ],
)
def test_a_class_is_that_of_the_field_or_of_the_annotation(
    class_name: str | None,
    notes: dict[str, str],
    has_class: bool,  # noqa: FBT001 - a column of the table
    is_served: bool,  # noqa: FBT001 - the same
) -> None:
    api = Api(has_class=has_class).ingress("app", class_name=class_name, notes=notes)
    found = rules.read(api.cluster, TRAEFIK, HOST)

    assert bool(found.served) is is_served
    assert bool(found.foreign) is not is_served


@pytest.mark.parametrize(
    ("path", "path_type", "notes", "asked", "is_taken"),
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
def test_a_path_takes_what_the_controllers_let_it_take(
    path: str,
    path_type: str,
    notes: dict[str, str],
    asked: str,
    is_taken: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert (Api().ingress("app", HOST, path, path_type, notes=notes).service(asked) == "app") is is_taken


def test_of_several_paths_the_exact_one_and_then_the_longest_is_taken() -> None:
    api = (
        Api().ingress("root").ingress("a", HOST, "/a").ingress("ab", HOST, "/a/b").ingress("exact", HOST, "/a", "Exact")
    )

    assert [api.service(path) for path in ("/", "/a", "/a/", "/a/b/c", "/b")] == ["root", "exact", "a", "ab", "root"]


@pytest.mark.parametrize(
    ("alias", "is_taken"),
    [("shop.test", True), ("a.test, SHOP.test", True), ("~^sh.p\\.test$", True), ("a.test", False)],
)
def test_an_alias_is_a_host_as_well(alias: str, is_taken: bool) -> None:  # noqa: FBT001 - a column of the table
    api = Api().ingress("app", notes={"server-alias": alias})

    assert (api.service(hostname="shop.test") == "app") is is_taken


def test_a_default_backend_takes_what_no_path_does() -> None:
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
def test_a_canary_is_no_rule_of_its_own_but_a_split_of_another(
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


def test_a_canary_alone_or_for_another_path_takes_nothing() -> None:
    canary = {"canary": "true", "canary-weight": "100"}
    assert Api().ingress("canary", notes=canary).match() is None

    other = Api().ingress("stable").ingress("canary", HOST, "/other", notes=canary).match()
    assert other
    assert other.split is None


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
def test_the_rule_is_the_one_that_the_controllers_log_names(record: Record | None, service: str) -> None:
    assert Api().ingress("first").ingress("second").service(record=record) == service
