"""The manifests of an index and of the indexes nested in it, and the choice of one for a platform."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from labctl.transfer.documents import IMAGE_CONFIG, IMAGE_CONFIGS, IMAGE_INDEXES, object_at

LINUX = "linux"
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""The exceptions that an invalid index or manifest raises."""
_UNKNOWN = "unknown"
_ATTESTATION = "vnd.docker.reference.type"
"""The annotation of an attestation manifest: an image's provenance, or its bill of materials."""
_MOST = 32
"""The most indexes that may be nested in one; tools nest one or two."""

Read: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Returns the document of a descriptor; None if it is missing."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest's descriptor in an index, and the manifest's platform."""

    described: Mapping[str, Any]
    platform: str = ""
    """`OS/ARCHITECTURE`; empty if no index specifies it."""
    variant: str = ""


def listed(index: Mapping[str, Any], wanted: str, read: Read) -> Iterator[Listed]:
    """Yield the manifests of an index, then those of nested indexes, whose platform applies to entries without one.

    An index for another platform than `wanted` is yielded itself, without being read. Raises one of BROKEN.
    """
    waiting, nested = deque(_entries(index, Listed({}))), 0
    while waiting:
        each = waiting.popleft()
        if each.platform not in {"", wanted} or not _is_index(each.described, read):
            yield each
            continue
        nested += 1
        if nested > _MOST:
            raise ValueError(f"more than {_MOST} indexes are nested in it")
        waiting.extend(_entries(read(each.described) or {"manifests": ()}, each))


def resolve_platform(each: Listed, read: Read) -> Listed:
    """Return a manifest with its platform, read from its configuration if no index has it. Raises one of BROKEN."""
    if each.platform:
        return each
    config = {"mediaType": IMAGE_CONFIG, **object_at(read(each.described), "config")}
    document = read(config) if config["mediaType"] in IMAGE_CONFIGS else None
    return replace(each, platform=_platform(document or {"os": _UNKNOWN}))


def best(manifests: Iterable[Listed], platform: str) -> Listed | None:
    """Return the manifest for a platform; of several, that of the lowest variant, which every machine can run."""
    return min((each for each in manifests if each.platform == platform), key=lambda each: each.variant, default=None)


def _entries(index: Mapping[str, Any], outer: Listed) -> Iterator[Listed]:
    for described in index["manifests"]:
        if _ATTESTATION in object_at(described, "annotations"):
            continue
        own = object_at(described, "platform")
        platform = _platform(own) if own else outer.platform
        yield Listed(described, platform, str(own.get("variant") or outer.variant))


def _is_index(described: Mapping[str, Any], read: Read) -> bool:
    kind = described.get("mediaType")
    return kind in IMAGE_INDEXES or (kind is None and "manifests" in (read(described) or {}))


def _platform(of: Mapping[str, Any]) -> str:
    return f"{of.get('os') or LINUX}/{of.get('architecture') or _UNKNOWN}"
