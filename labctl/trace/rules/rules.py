"""Find the rule that matches a request, as Traefik's ingress-nginx provider and ingress-nginx do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from labctl.model.kinds import ROUTE, ROUTE_CLASS
from labctl.render.ingress import IngressController
from labctl.trace.probes.access_log import Record
from labctl.trace.rules import annotations as ingress_annotations
from labctl.trace.rules import routes
from labctl.trace.rules.annotations import ANNOTATION, NGINX, Refusal
from labctl.trace.rules.routes import ROOT, Backend, Route, Split, full_name

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

__all__ = ["ANNOTATION", "ROOT", "Backend", "Match", "Route", "Rules", "Split", "full_name", "read"]

CONTROLLER = "k8s.io/ingress-nginx"
"""The `controller` of an IngressClass that the controllers serve."""
CLASS_ANNOTATION = "kubernetes.io/ingress.class"


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that matches a request, its canary, and its rivals."""

    route: Route
    split: Split | None
    others: tuple[str, ...]
    rivals: tuple[Route, ...] = ()
    """Rules of other Ingresses that match equally well and route to another Service."""
    is_settled: bool = True
    """Whether the winner among the rivals is certain: Traefik uses either, and may switch at its next change."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """The Ingress's annotations of ingress-nginx, without their common prefix."""
    ignored: tuple[str, ...] = ()
    """The annotations that the controller ignores."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Every Ingress that names a host, read once."""

    hostname: str
    controller: IngressController
    served: tuple[Route, ...]
    """The routes of served Ingresses, oldest first."""
    foreign: tuple[tuple[str, str], ...]
    """Ingresses of another class that name the host, each with its class."""
    refused: tuple[tuple[str, Refusal], ...]
    """Ingresses of the right class that name the host and that the controller rejects."""
    canaries: tuple[tuple[Route, Split], ...]
    hosts: tuple[str, ...]
    """All hosts with rules."""
    classes: frozenset[str]
    """The classes that the controller serves."""
    notes: Mapping[str, Mapping[str, str]]
    """The annotations of each served Ingress."""
    splits: Mapping[Backend, Split]
    """The canary that takes part of the requests for a Service, whatever their host."""

    @property
    def is_named(self) -> bool:
        """Return whether any Ingress names the host, served or not."""
        is_routed = bool(self.served or self.foreign or self.refused or self.canaries)
        return is_routed or self.hostname in {host.lower() for host in self.hosts}

    def match(self, path: str, record: Record | None) -> Match | None:
        """Return the rule that matches this path: the one in the controller's log, if recorded."""
        path = path.partition("?")[0]
        candidates = self._candidates(path)
        recorded = [route for route in self.served if record and _is_recorded(route, record)]
        route = max(recorded, key=lambda route: len(route.router), default=None)
        if route is None and not candidates:
            return None
        route = route or candidates[0]
        rivals = tuple(each for each in candidates if self._is_rival(each, route))
        others = dict.fromkeys(each.ingress for each in self.served if each.ingress != route.ingress)
        is_settled = self.controller.name == NGINX
        notes = self.notes.get(route.ingress, {})
        ignored = ingress_annotations.ignored(notes, self.controller.name)
        return Match(route, self.splits.get(route.backend), tuple(others), rivals, is_settled, notes, ignored)

    def _candidates(self, path: str) -> list[Route]:
        """Return the rules that match a path, the winner first."""
        taking = [route for route in self.served if route.matches(path)]
        if self.controller.name != NGINX:
            return sorted(taking, key=lambda route: -route.weight)
        rank = min((routes.RANKS.index(route.matched_by) for route in self.served), default=0)
        same_server = [route for route in taking if routes.RANKS.index(route.matched_by) == rank]
        return sorted(same_server, key=lambda route: route.order)

    def _is_rival(self, other: Route, route: Route) -> bool:
        if other.ingress == route.ingress or other.backend == route.backend:
            return False
        is_nginx = self.controller.name == NGINX
        return other.order == route.order if is_nginx else other.weight == route.weight


def read(cluster: Cluster, controller: IngressController, hostname: str) -> Rules:
    """Return the rules that name a host."""
    ingresses, classes = sorted_by_age(cluster.find(*ROUTE)), classes_of(cluster)
    foreign: list[tuple[str, str]] = []
    ours: list[Mapping[str, Any]] = []
    for ingress in ingresses:
        if is_served(ingress, controller, classes):
            ours.append(ingress)
        elif any(routes.routes_for(ingress, hostname, routes.aliases_of(ingress))):
            foreign.append((full_name(ingress), class_of(ingress) or "none"))
    served, refused, canaries = _classify(cluster, controller, hostname, ours)
    rejected = {name for name, _ in refused}
    accepted = [each for each in ours if full_name(each) not in rejected]
    hosts = sorted({host for each in ingresses for host in routes.hosts_of(each)})
    named = {route.ingress for route in served}
    notes = {name: ingress_annotations.notes(each) for each in ours if (name := full_name(each)) in named}
    return Rules(
        hostname,
        controller,
        tuple(served),
        tuple(foreign),
        tuple(refused),
        tuple(canaries),
        tuple(hosts),
        frozenset(classes),
        notes,
        _splits(accepted) if controller.name == NGINX else _splits_of_traefik(ours, rejected),
    )


def classes_of(cluster: Cluster) -> set[str]:
    """Return the classes that the controllers serve."""
    classes = cluster.find(*ROUTE_CLASS)
    return {each["metadata"]["name"] for each in classes if each.get("spec", {}).get("controller") == CONTROLLER}


def class_of(ingress: Mapping[str, Any]) -> str | None:
    """Return the class of an Ingress, from its field or else from the annotation."""
    notes = ingress["metadata"].get("annotations") or {}
    class_name = ingress["spec"].get("ingressClassName") or notes.get(CLASS_ANNOTATION)
    return None if class_name is None else str(class_name)


def sorted_by_age(ingresses: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort Ingresses as the controllers do: oldest first; of the same age, by name in reverse."""
    by_name = sorted(ingresses, key=full_name, reverse=True)
    return sorted(by_name, key=lambda each: each["metadata"].get("creationTimestamp") or "")


def _classify(
    cluster: Cluster, controller: IngressController, hostname: str, ingresses: Sequence[Mapping[str, Any]]
) -> tuple[list[Route], list[tuple[str, Refusal]], list[tuple[Route, Split]]]:
    """Return the rules for a host, the rejected Ingresses, and the canaries."""
    served: list[Route] = []
    refused: list[tuple[str, Refusal]] = []
    canaries: list[tuple[Route, Split]] = []
    claimed: dict[str, str] = {}
    mains: set[Backend] = set()
    hosts = {host.lower() for each in ingresses for host in routes.hosts_of(each)}
    for ingress in ingresses:
        name = full_name(ingress)
        is_canary = _is_canary(ingress)
        aliases = [
            alias
            for alias in ([] if is_canary else routes.aliases_of(ingress))
            if alias.lower() not in hosts and claimed.setdefault(alias.lower(), name) == name
            if controller.name == NGINX or not alias.startswith("~")  # Traefik supports no regexes as aliases
        ]
        candidates = list(routes.routes_for(ingress, hostname, aliases))
        is_asked = _is_named(ingress, hostname)
        refusal = ingress_annotations.refusal(cluster, ingress, controller.name) if is_asked else None
        if refusal is not None:
            refused.append((name, refusal))
        elif is_canary and not (controller.name == NGINX and routes.backends_of(ingress) & mains):
            canaries += [(route, routes.split_of(ingress, route)) for route in candidates]
        else:  # ingress-nginx treats a canary to a Service that an older Ingress routes to like any other rule
            served += candidates
            mains |= routes.backends_of(ingress)
    by_regex = {route.host for route in served if route.is_regex}  # one makes a regex of all paths of its host
    served = [replace(route, is_regex=bool(route.path) and route.host in by_regex) for route in served]
    return served, refused, canaries


def _splits(ingresses: Iterable[Mapping[str, Any]]) -> dict[Backend, Split]:
    """Return the canary of each Service, as ingress-nginx merges them: with the rule of the same host and path."""
    mains: dict[tuple[str, str, str], Backend] = {}
    owned: set[Backend] = set()
    canaries: list[tuple[Route, Split]] = []
    for ingress in ingresses:
        everywhere = list(routes.all_routes(ingress))
        if _is_canary(ingress) and not routes.backends_of(ingress) & owned:
            canaries += [(route, routes.split_of(ingress, route)) for route in everywhere]
        else:
            owned |= routes.backends_of(ingress)
            for route in everywhere:
                mains.setdefault(route.nginx_match_key, route.backend)
    splits: dict[Backend, Split] = {}
    for route, split in canaries:
        if main := mains.get(route.nginx_match_key):
            splits.setdefault(main, split)
    return splits


def _splits_of_traefik(ingresses: Sequence[Mapping[str, Any]], refused: Collection[str]) -> dict[Backend, Split]:
    """Return the canary of each Service, as Traefik merges them: the first for a path, the last for a Service."""
    mains: dict[tuple[str, str, str, str], Backend] = {}
    for ingress in ingresses:
        if not _is_canary(ingress):
            mains |= {route.match_key: route.backend for route in routes.all_routes(ingress)}
    splits: dict[Backend, Split] = {}
    taken: set[tuple[str, str, str, str]] = set()
    for ingress in ingresses:
        if not _is_canary(ingress) or full_name(ingress) in refused:
            continue
        for route in routes.all_routes(ingress):
            main = mains.get(route.match_key)
            if main is not None and main != route.backend and route.match_key not in taken:
                taken.add(route.match_key)
                splits[main] = routes.split_of(ingress, route)
    return splits


def _is_canary(ingress: Mapping[str, Any]) -> bool:
    return ingress_annotations.value(ingress, "canary").lower() == "true"


def _is_named(ingress: Mapping[str, Any], hostname: str) -> bool:
    named = {host.lower() for host in (*routes.hosts_of(ingress), *routes.aliases_of(ingress))}
    wildcard = f"*.{hostname.partition('.')[2]}"
    return bool(named & {hostname.lower(), wildcard.lower(), "*"})


def is_served(ingress: Mapping[str, Any], controller: IngressController, classes: set[str]) -> bool:
    """Return whether the controller serves the Ingress's class. A class in `ingressClassName` has to exist."""
    named = ingress["spec"].get("ingressClassName")
    if named and classes:
        return named in classes
    return (ingress["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION) == controller.ingress_class


def _is_recorded(route: Route, record: Record) -> bool:
    if record.router:
        name = record.router.partition("@")[0]
        return re.search(rf"(^|-){re.escape(route.router)}(-(non-)?canary)?$", name) is not None
    backend = route.backend
    return bool(record.upstream) and record.upstream == f"{backend.namespace}-{backend.service}-{backend.port}"
