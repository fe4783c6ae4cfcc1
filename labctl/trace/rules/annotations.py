"""Annotations of ingress-nginx: which of them a controller supports, and which make it reject an Ingress."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.model.sentences import clause

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

NGINX = "ingress-nginx"
"""The controller that defines these annotations."""
ANNOTATION = "nginx.ingress.kubernetes.io/"
REDIRECTING = ("force-ssl-redirect", "permanent-redirect", "temporal-redirect", "app-root", "from-to-www-redirect")
"""Annotations that make a controller redirect without forwarding the request to the app."""
SNIPPETS = ("server-snippet", "configuration-snippet", "auth-snippet")
NGINX_SNIPPETS = (*SNIPPETS, "modsecurity-snippet", "stream-snippet")
"""Traefik ignores the last two."""
AUTH_TYPES = ("basic", "digest")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._\-/]*")
"""The characters of a path that is not a regular expression."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a controller rejects an Ingress, and the changes that would remove it."""

    reason: str
    remove: tuple[str, ...] = ()
    """The annotations to remove."""
    loose_paths: tuple[str, ...] = ()
    """The JSON pointer of each `pathType` in the Ingress that has to be ImplementationSpecific."""
    is_of_guard: bool = False
    """Whether these annotations protect the app."""


def value(ingress: Mapping[str, Any], name: str) -> str:
    """Return the value of an annotation; empty if there is none."""
    return str((ingress["metadata"].get("annotations") or {}).get(ANNOTATION + name, ""))


def notes(ingress: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of ingress-nginx, without their common prefix."""
    written = ingress["metadata"].get("annotations") or {}
    return {name.removeprefix(ANNOTATION): str(text) for name, text in written.items() if name.startswith(ANNOTATION)}


def ignored(names: Iterable[str], controller: str) -> tuple[str, ...]:
    """Return the annotations of ingress-nginx that a controller ignores."""
    known = _supported(controller)
    return tuple(sorted(name for name in names if name not in known))


@cache
def _supported(controller: str) -> frozenset[str]:
    """Return the annotations that a controller supports; ingress-nginx supports all that Traefik does, and more."""
    import tomllib  # noqa: PLC0415 - only an Ingress with annotations needs it

    table = tomllib.loads(Path(__file__).with_name("annotations.toml").read_text(encoding="utf-8"))
    return frozenset(table["both"] + (table[NGINX] if controller == NGINX else []))


def refusal(cluster: Cluster, ingress: Mapping[str, Any], controller: str) -> Refusal | None:
    """Return why a controller does not serve an Ingress that is in the cluster; None if it does.

    The webhook of ingress-nginx rejects snippets, but not in an Ingress that was created while Traefik served.
    """
    return next((problem for check in _CHECKS[controller] for problem in check(cluster, ingress)), None)


def rejection(cluster: Cluster, ingress: Mapping[str, Any]) -> Refusal | None:
    """Return why ingress-nginx does not serve an Ingress, or its webhook rejects it; None if neither applies."""
    return refusal(cluster, ingress, NGINX) or next(_by_path(cluster, ingress), None)


def _by_snippet(
    _cluster: Cluster, ingress: Mapping[str, Any], snippets: tuple[str, ...] = SNIPPETS
) -> Iterator[Refusal]:
    if names := tuple(name for name in snippets if value(ingress, name)):
        yield Refusal(f"it has {', '.join(names)}, but snippets are not allowed", names)


def _by_path(_cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    places, paths = [], []
    for number, rule in enumerate(ingress["spec"].get("rules") or []):
        for index, path in enumerate((rule.get("http") or {}).get("paths") or []):
            is_loose = path.get("pathType") == "ImplementationSpecific"
            if (text := path.get("path", "")) and not is_loose and not _PLAIN_PATH.fullmatch(text):
                places.append(f"/spec/rules/{number}/http/paths/{index}/pathType")
                paths.append(text)
    if places:
        whose = (
            f"its {clause((f'path {path}' for path in paths), 'is a regular expression', 'are regular expressions')}"
        )
        yield Refusal(f"{whose} without the pathType ImplementationSpecific", loose_paths=tuple(places))


def _by_passthrough(_cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    if value(ingress, "ssl-passthrough").lower() == "true":
        yield Refusal("with ssl-passthrough it only serves TLS, but the lab serves HTTP", ("ssl-passthrough",))


def _by_login(cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    if not (kind := value(ingress, "auth-type")):
        return
    names = tuple(
        name for name in ("auth-type", "auth-secret", "auth-secret-type", "auth-realm") if value(ingress, name)
    )
    secret = value(ingress, "auth-secret")
    if kind not in AUTH_TYPES:
        yield Refusal(
            f"its auth-type is {kind}, but only {' and '.join(AUTH_TYPES)} are supported", names, is_of_guard=True
        )
    elif not secret:
        yield Refusal("it has an auth-type but no auth-secret", names, is_of_guard=True)
    elif reason := _missing(cluster, ingress, "Secret", secret):
        yield Refusal(f"its auth-secret {reason}", names, is_of_guard=True)


def _by_client_certificate(cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    if (secret := value(ingress, "auth-tls-secret")) and (reason := _missing(cluster, ingress, "Secret", secret)):
        yield Refusal(f"its auth-tls-secret {reason}", ("auth-tls-secret",), is_of_guard=True)


def _by_own_certificate(cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    if (secret := value(ingress, "proxy-ssl-secret")) and (reason := _missing(cluster, ingress, "Secret", secret)):
        yield Refusal(f"its proxy-ssl-secret {reason}", ("proxy-ssl-secret",))


def _by_own_certificate_in_use(cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    if value(ingress, "backend-protocol").upper() in {"HTTPS", "GRPCS"}:
        yield from _by_own_certificate(cluster, ingress)


def _by_headers(cluster: Cluster, ingress: Mapping[str, Any]) -> Iterator[Refusal]:
    name = "custom-headers"
    if not (reference := value(ingress, name)):
        return
    namespace, _, configmap = reference.partition("/")
    settings = cluster.get("v1", "ConfigMap", configmap, namespace) if configmap else None
    if settings is None:
        yield Refusal(f"its {name} names the ConfigMap {reference}, which does not exist", (name,))
    elif settings.get("data"):
        yield Refusal(f"its {name} sets headers that the controller does not allow", (name,))


def _missing(cluster: Cluster, ingress: Mapping[str, Any], kind: str, reference: str) -> str:
    """Return what is wrong with the object that an annotation names as NAME or NAMESPACE/NAME; empty if it exists."""
    own = ingress["metadata"]["namespace"]
    namespace, _, name = reference.rpartition("/")
    if namespace not in {"", own}:
        return f"is in the namespace {namespace}, but has to be in {own}"
    return "" if cluster.get("v1", kind, name, own) else f"names the {kind} {name}, which does not exist in {own}"


_Check = Callable[["Cluster", Mapping[str, Any]], Iterator[Refusal]]
_CHECKS: Mapping[str, tuple[_Check, ...]] = {
    "traefik": (
        _by_snippet,
        _by_path,
        _by_passthrough,
        _by_login,
        _by_client_certificate,
        _by_own_certificate_in_use,
        _by_headers,
    ),
    NGINX: (
        partial(_by_snippet, snippets=NGINX_SNIPPETS),
        _by_login,
        _by_client_certificate,
        _by_own_certificate,
        _by_headers,
    ),
}
