"""Read the hosts, paths and backends of one Ingress, as either controller does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.trace.rules import annotations as ingress_annotations

HOST, ALIAS, WILDCARD, ANY = "host", "server-alias", "wildcard", "any host"
RANKS = (HOST, ALIAS, WILDCARD, ANY)
ROOT = "/"
EXACT, LOOSE = "Exact", "ImplementationSpecific"


@dataclass(frozen=True, slots=True)
class Backend:
    """The Service that a rule routes to, and its port."""

    namespace: str
    service: str
    port: str | int


@dataclass(frozen=True, slots=True)
class Route:
    """A host and a path of one Ingress, and their backend."""

    ingress: str
    """The Ingress's namespace and name."""
    host: str
    matched_by: str
    path: str
    path_type: str
    is_regex: bool
    backend: Backend
    router: str
    """Traefik's name for the rule."""
    place: str
    """The backend's JSON pointer within the Ingress."""
    aliases: tuple[str, ...] = ()

    def matches(self, path: str) -> bool:
        """Return whether the rule matches this path."""
        if not self.path:
            return True
        if self.path_type == EXACT:
            return path == self.path
        if self.is_regex:
            return matches(self.path, path)
        prefix = self.path.rstrip("/")
        return path == prefix or path.startswith(prefix + "/")

    @property
    def match_key(self) -> tuple[str, str, str, str]:
        """What a rule and its canary have in common: namespace, host, path and path type."""
        return self.backend.namespace, self.host, self.path, self.path_type

    @property
    def nginx_match_key(self) -> tuple[str, str, str]:
        """What a rule and its canary have in common in ingress-nginx: host, path and path type."""
        return self.host.lower(), self.path, "Prefix" if self.path_type == LOOSE else self.path_type

    @property
    def order(self) -> tuple[int, bool, int]:
        """The sort key that puts ingress-nginx's winner first: a more specific host, an exact path, a longer path."""
        return RANKS.index(self.matched_by), self.path_type != EXACT, -len(self.path)

    @property
    def weight(self) -> int:
        """Return the length of Traefik's rule: the longest rule wins."""
        if self.matched_by == ANY and not self.path:
            return -1
        hosts = [f"Host({json.dumps(name)})" for name in (self.host, *self.aliases)] if self.host != "*" else []
        named = " || ".join(hosts)
        parts = [f"({named})" if len(hosts) > 1 else named] if hosts else []
        return len(" && ".join([*parts, *self._path_rule()]))

    def _path_rule(self) -> Iterator[str]:
        if not self.path:
            return
        if self.path_type == EXACT:
            yield f"Path({json.dumps(self.path)})"
        elif self.is_regex:
            yield f"PathRegexp({json.dumps('(?i)^' + self.path)})"
        elif self.path == ROOT:
            yield 'PathPrefix("/")'
        else:
            prefix = self.path.removesuffix("/")
            yield f"(Path({json.dumps(prefix)}) || PathPrefix({json.dumps(prefix + '/')}))"


@dataclass(frozen=True, slots=True)
class Split:
    """A canary: another Service that takes part of a rule's requests."""

    ingress: str
    backend: Backend
    weight: int
    total: int
    by: tuple[str, ...]
    """The headers and cookies that select it."""
    place: str = ""


def full_name(manifest: Mapping[str, Any]) -> str:
    """Return an object's namespace and name."""
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


def routes_for(ingress: Mapping[str, Any], hostname: str, aliases: Sequence[str] = ()) -> Iterator[Route]:
    """Yield the routes of an Ingress for a host. Controllers do not serve those whose backend is not a Service."""
    spec, name = ingress["spec"], full_name(ingress)
    router = name.replace("/", "-")
    rules: Sequence[Mapping[str, Any]] = spec.get("rules") or []
    default = (spec.get("defaultBackend") or {}).get("service") and spec["defaultBackend"]
    for index, rule in enumerate(rules):
        host = rule.get("host") or "*"
        if not (matched_by := _matched_by(rule.get("host") or "", aliases, hostname)):
            continue
        for number, path in enumerate((rule.get("http") or {}).get("paths") or []):
            if not path["backend"].get("service"):
                continue
            kind, key = path.get("pathType") or "Prefix", f"{router}-rule-{index}-path-{number}"
            place = f"/spec/rules/{index}/http/paths/{number}/backend"
            yield Route(
                name,
                host,
                matched_by,
                path.get("path", ROOT),
                kind,
                _is_regex(ingress),
                _backend(ingress, path["backend"]),
                key,
                place,
                tuple(aliases),
            )
        if default:
            yield _default(ingress, host, matched_by, f"{router}-default-backend", tuple(aliases))
    if default and not rules:
        yield _default(ingress, "*", ANY, "default-backend", ())


def aliases_of(ingress: Mapping[str, Any]) -> list[str]:
    """Return the alias hosts of an Ingress."""
    return [each.strip() for each in ingress_annotations.value(ingress, "server-alias").split(",") if each.strip()]


def hosts_of(ingress: Mapping[str, Any]) -> list[str]:
    """Return the hosts of an Ingress's rules; `*` for a rule for all hosts."""
    return [rule.get("host") or "*" for rule in ingress["spec"].get("rules") or []]


def all_routes(ingress: Mapping[str, Any]) -> Iterator[Route]:
    """Yield the routes of an Ingress for all of its hosts."""
    for host in dict.fromkeys(hosts_of(ingress)):
        yield from (route for route in routes_for(ingress, "" if host == "*" else host) if route.host == host)


def backends_of(ingress: Mapping[str, Any]) -> set[Backend]:
    """Return the Services of an Ingress's rules, for whichever host, and of its default backend."""
    spec = ingress["spec"]
    paths = [path for rule in spec.get("rules") or [] for path in (rule.get("http") or {}).get("paths") or []]
    backends = [path["backend"] for path in paths] + [spec.get("defaultBackend") or {}]
    return {_backend(ingress, each) for each in backends if each.get("service")}


def split_of(ingress: Mapping[str, Any], route: Route) -> Split:
    """Return which requests a canary's route takes."""
    total = max(_number(ingress_annotations.value(ingress, "canary-weight-total")), 100)
    weight = min(_number(ingress_annotations.value(ingress, "canary-weight")), total)
    by = tuple(filter(None, (ingress_annotations.value(ingress, f"canary-by-{what}") for what in ("header", "cookie"))))
    return Split(route.ingress, route.backend, weight, total, by, route.place)


def matches(pattern: str, text: str) -> bool:
    """Return whether the pattern matches the beginning of the text; a pattern that Python rejects matches nothing."""
    try:
        return re.match(pattern, text, re.IGNORECASE) is not None
    except re.error:
        return False


def _default(ingress: Mapping[str, Any], host: str, matched_by: str, router: str, aliases: tuple[str, ...]) -> Route:
    backend = _backend(ingress, ingress["spec"]["defaultBackend"])
    return Route(
        full_name(ingress), host, matched_by, "", "Prefix", False, backend, router, "/spec/defaultBackend", aliases
    )


def _matched_by(host: str, aliases: Sequence[str], hostname: str) -> str:
    """Return how a rule matches a host, empty if it does not; a wildcard stands for one label."""
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
        return matches(alias.removeprefix("~"), hostname)
    return alias.lower() == hostname


def _is_regex(ingress: Mapping[str, Any]) -> bool:
    is_said = ingress_annotations.value(ingress, "use-regex").lower() == "true"
    return is_said or bool(ingress_annotations.value(ingress, "rewrite-target"))


def _backend(ingress: Mapping[str, Any], backend: Mapping[str, Any]) -> Backend:
    service = backend["service"]
    port = service.get("port") or {}
    return Backend(ingress["metadata"]["namespace"], service["name"], port.get("name") or port.get("number") or "")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
