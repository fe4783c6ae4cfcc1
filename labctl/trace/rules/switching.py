"""Find the Ingresses that another ingress controller would reject, or not serve as they are now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.model.kinds import ROUTE
from labctl.render.ingress import IngressController
from labctl.trace.rules import annotations as ingress_annotations
from labctl.trace.rules.annotations import NGINX
from labctl.trace.rules.routes import ROOT, full_name
from labctl.trace.rules.rules import classes_of, is_served, sorted_by_age

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

SNIPPET = "-snippet"
"""The end of the annotations that ingress-nginx rejects by default."""
CANARY = "canary"


def lost_rules(cluster: Cluster, controller: IngressController) -> list[str]:
    """Return what this controller would reject or ignore of the cluster's Ingresses, one line for each problem."""
    classes = classes_of(cluster)
    ingresses = [each for each in sorted_by_age(cluster.find(*ROUTE)) if is_served(each, controller, classes)]
    losses = _by_nginx(cluster, ingresses) if controller.name == NGINX else _by_traefik(cluster, controller, ingresses)
    return [f"{controller.name} {text}" for text in losses]


def _by_traefik(
    cluster: Cluster, controller: IngressController, ingresses: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    for ingress in ingresses:
        if refusal := ingress_annotations.refusal(cluster, ingress, controller.name):
            yield f"rejects the Ingress {full_name(ingress)}: {refusal.reason}"
        elif names := ingress_annotations.ignored(ingress_annotations.notes(ingress), controller.name):
            yield f"ignores of the Ingress {full_name(ingress)}: {', '.join(names)}"


def _by_nginx(cluster: Cluster, ingresses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what ingress-nginx would not serve, or its webhook would reject.

    Of two Ingresses with the same host and path, ingress-nginx serves the older one.
    """
    owners: dict[tuple[str, str, str], str] = {}
    for ingress in ingresses:
        name = full_name(ingress)
        # The webhook checks only how a key ends, whatever its prefix.
        keys = ingress["metadata"].get("annotations") or {}
        if snippets := sorted(
            key.removeprefix(ingress_annotations.ANNOTATION) for key in keys if key.endswith(SNIPPET)
        ):
            yield f"rejects the Ingress {name}: it has {', '.join(snippets)}, but snippets are not allowed"
        elif refusal := ingress_annotations.rejection(cluster, ingress):
            yield f"rejects the Ingress {name}: {refusal.reason}"
        for spot in _match_keys(ingress):
            if (owner := owners.setdefault(spot, name)) != name:
                yield f'rejects the Ingress {name}: host "{spot[0]}" and path "{spot[1]}" are those of the Ingress {owner}'


def _match_keys(ingress: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the host, the path and the canary annotation of each rule: a canary may share them with another rule."""
    canary = ingress_annotations.value(ingress, CANARY)
    for rule in ingress["spec"].get("rules") or []:
        for path in (rule.get("http") or {}).get("paths") or []:
            if path["backend"].get("service"):
                yield rule.get("host") or "*", path.get("path") or ROOT, canary
