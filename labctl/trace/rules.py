"""The rules of Ingresses as Traefik's ingress-nginx provider and ingress-nginx read them: which one takes a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labctl.ingress import IngressController
from labctl.trace.access_log import Record

if TYPE_CHECKING:
    from labctl.kube import Cluster

API = "networking.k8s.io/v1"
CONTROLLER = "k8s.io/ingress-nginx"
"""What an IngressClass says that either of the controllers serves."""
ANNOTATION = "nginx.ingress.kubernetes.io/"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
HOST, ALIAS, WILDCARD, ANY = "host", "server-alias", "wildcard", "any host"
_RANKS = (HOST, ALIAS, WILDCARD, ANY)
ROOT = "/"


@dataclass(frozen=True, slots=True)
class Backend:
    """The Service that a rule leads to. Its name is empty where the backend is no Service."""

    namespace: str
    service: str
    port: str | int


@dataclass(frozen=True, slots=True)
class Route:
    """A host and a path of one Ingress, and where they lead."""

    ingress: str
    """Namespace and name."""
    host: str
    matched_by: str
    path: str
    path_type: str
    is_regex: bool
    backend: Backend
    router: str
    """What Traefik calls it."""

    def takes(self, path: str) -> bool:
        """Whether a request for this path is the rule's."""
        if not self.path:
            return True
        if self.path_type == "Exact":
            return path == self.path
        if self.is_regex:
            return _matches(self.path, path)
        prefix = self.path.rstrip("/")
        return path == prefix or path.startswith(prefix + "/")

    @property
    def order(self) -> tuple[int, bool, int]:
        """What sorts the rule that wins first: the host says more, the path is exact, the path is longer."""
        return _RANKS.index(self.matched_by), self.path_type != "Exact", -len(self.path)


@dataclass(frozen=True, slots=True)
class Split:
    """A canary: another Service that takes a part of a rule's requests."""

    ingress: str
    backend: Backend
    weight: int
    total: int
    by: tuple[str, ...]
    """The headers and cookies that choose it."""


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that takes a request, the canary beside it, and the Ingresses that name the host as well."""

    route: Route
    split: Split | None
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """Every Ingress that names a host, read once."""

    hostname: str
    controller: IngressController
    served: tuple[Route, ...]
    foreign: tuple[tuple[str, str], ...]
    """Ingresses that name it and are of another class, each with that class."""
    canaries: tuple[tuple[Route, Split], ...]
    hosts: tuple[str, ...]
    """All hosts for which there are rules."""

    def match(self, path: str, record: Record | None) -> Match | None:
        """Return the rule that takes a request for this path: the one in the controller's log, if that says it."""
        path = path.partition("?")[0]
        candidates = sorted((route for route in self.served if route.takes(path)), key=lambda route: route.order)
        recorded = [route for route in self.served if record and _is_recorded(route, record)]
        route = max(recorded, key=lambda route: len(route.router), default=None)
        if route is None and not candidates:
            return None
        route = route or candidates[0]
        splits = (split for each, split in self.canaries if _same_place(each, route) and split.backend != route.backend)
        others = dict.fromkeys(each.ingress for each in self.served if each.ingress != route.ingress)
        return Match(route, next(splits, None), tuple(others))


def read(cluster: Cluster, controller: IngressController, hostname: str) -> Rules:
    """Return the rules that name a host."""
    ingresses = cluster.list(API, "Ingress")
    classes = {
        each["metadata"]["name"]
        for each in cluster.list(API, "IngressClass")
        if each.get("spec", {}).get("controller") == CONTROLLER
    }
    served: list[Route] = []
    foreign: list[tuple[str, str]] = []
    canaries: list[tuple[Route, Split]] = []
    for ingress in sorted(ingresses, key=lambda each: each["metadata"].get("creationTimestamp") or ""):
        found = list(_routes(ingress, hostname))
        if found and not _is_served(ingress, controller, classes):
            foreign.append((full_name(ingress), class_of(ingress) or "none"))
        elif found and _annotation(ingress, "canary") == "true":
            canaries += [(route, _split(ingress, route)) for route in found]
        else:
            served += found
    if any(route.is_regex for route in served):  # one of them makes all paths of the host regular expressions
        served = [_as_regex(route) for route in served]
    hosts = sorted({rule.get("host", "*") for each in ingresses for rule in each["spec"].get("rules") or []})
    return Rules(hostname, controller, tuple(served), tuple(foreign), tuple(canaries), tuple(hosts))


def class_of(ingress: Mapping[str, Any]) -> str | None:
    """Return the class of an Ingress, by its field or else by the annotation."""
    annotations = ingress["metadata"].get("annotations") or {}
    found = ingress["spec"].get("ingressClassName") or annotations.get(CLASS_ANNOTATION)
    return None if found is None else str(found)


def full_name(found: Mapping[str, Any]) -> str:
    """Return an object's namespace and name."""
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"


def _is_served(ingress: Mapping[str, Any], controller: IngressController, classes: set[str]) -> bool:
    named = ingress["spec"].get("ingressClassName")
    if named and classes:
        return named in classes
    return class_of(ingress) == controller.ingress_class


def _routes(ingress: Mapping[str, Any], hostname: str) -> Iterator[Route]:
    spec, name = ingress["spec"], full_name(ingress)
    is_regex = _annotation(ingress, "use-regex") == "true" or bool(_annotation(ingress, "rewrite-target"))
    router = name.replace("/", "-")
    aliases = [each.strip() for each in _annotation(ingress, "server-alias").split(",") if each.strip()]
    rules: Sequence[Mapping[str, Any]] = spec.get("rules") or []
    default = spec.get("defaultBackend")
    for index, rule in enumerate(rules):
        matched_by = _matched_by(rule.get("host") or "", aliases, hostname)
        if not matched_by:
            continue
        host = rule.get("host") or "*"
        for number, path in enumerate((rule.get("http") or {}).get("paths") or []):
            backend, kind = _backend(ingress, path["backend"]), path.get("pathType") or "Prefix"
            key = f"{router}-rule-{index}-path-{number}"
            yield Route(name, host, matched_by, path.get("path", ROOT), kind, is_regex, backend, key)
        if default:
            yield Route(
                name, host, matched_by, "", "Prefix", False, _backend(ingress, default), f"{router}-default-backend"
            )
    if default and not rules:
        yield Route(name, "*", ANY, "", "Prefix", False, _backend(ingress, default), "default-backend")


def _matched_by(host: str, aliases: Sequence[str], hostname: str) -> str:
    """Return how a rule names a host: Kubernetes' star stands for one label."""
    host, hostname = host.lower(), hostname.lower()
    if not host:
        return ANY
    if host == hostname:
        return HOST
    if any(_is_alias(alias, hostname) for alias in aliases):
        return ALIAS
    return WILDCARD if host.startswith("*.") and hostname.partition(".")[2] == host[2:] else ""


def _is_alias(alias: str, hostname: str) -> bool:
    if alias.startswith("~"):
        return _matches(alias.removeprefix("~"), hostname)
    return alias.lower() == hostname


def _matches(pattern: str, text: str) -> bool:
    """Whether the text begins as the pattern says; one that Python does not know matches nothing."""
    try:
        return re.match(pattern, text, re.IGNORECASE) is not None
    except re.error:
        return False


def _backend(ingress: Mapping[str, Any], backend: Mapping[str, Any]) -> Backend:
    service = backend.get("service") or {}
    port = service.get("port") or {}
    return Backend(
        ingress["metadata"]["namespace"], service.get("name", ""), port.get("name") or port.get("number") or ""
    )


def _split(ingress: Mapping[str, Any], route: Route) -> Split:
    total = max(_number(_annotation(ingress, "canary-weight-total")), 100)
    weight = min(_number(_annotation(ingress, "canary-weight")), total)
    by = tuple(filter(None, (_annotation(ingress, f"canary-by-{what}") for what in ("header", "cookie"))))
    return Split(route.ingress, route.backend, weight, total, by)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _annotation(ingress: Mapping[str, Any], name: str) -> str:
    return str((ingress["metadata"].get("annotations") or {}).get(ANNOTATION + name, ""))


def _as_regex(route: Route) -> Route:
    return replace(route, is_regex=bool(route.path))


def _same_place(canary: Route, route: Route) -> bool:
    return (canary.host, canary.path, canary.backend.namespace) == (route.host, route.path, route.backend.namespace)


def _is_recorded(route: Route, record: Record) -> bool:
    if record.router:
        name = record.router.partition("@")[0]
        return re.search(rf"(^|-){re.escape(route.router)}(-(non-)?canary)?$", name) is not None
    backend = route.backend
    return bool(record.upstream) and record.upstream == f"{backend.namespace}-{backend.service}-{backend.port}"
