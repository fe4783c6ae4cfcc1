"""Reading versions, networks and reasons out of what tools say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any, TypeVar

Version = tuple[int, ...]
T = TypeVar("T", dict[str, Any], list[Any])


def version(pattern: str, text: str) -> Version:
    """The numbers of what the first group of the pattern matches in one of the lines; empty where nothing does."""
    found = re.search(pattern, text, re.MULTILINE)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def dotted(version: Version) -> str:
    """The version as it is written."""
    return ".".join(map(str, version))


def last(lines: Sequence[str]) -> str:
    """The last of the lines, where tools say why they failed; empty where there is none."""
    return lines[-1].strip() if lines else ""


def ipv4_network(text: str) -> IPv4Network | None:
    """The network that a tool or a setting names; None where it is none, or of IPv6."""
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def document(text: str, kind: type[T] = dict) -> T:  # type: ignore[assignment]
    """Return the JSON document of that kind that a tool wrote; an empty one where it wrote something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return kind()
    return found if isinstance(found, kind) else kind()
