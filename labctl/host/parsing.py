"""Parsers for versions, networks, reasons and JSON in the output of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any, TypeVar

Version = tuple[int, ...]
T = TypeVar("T", dict[str, Any], list[Any])


def parse_version(pattern: str, text: str) -> Version:
    """Return the numbers of the version that the pattern's first group matches in a line; empty if no line matches."""
    match = re.search(pattern, text, re.MULTILINE)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def version_text(version: Version) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))


def last_line(lines: Sequence[str]) -> str:
    """Return the last line, in which most tools give the reason of a failure; empty if there are no lines."""
    return lines[-1].strip() if lines else ""


def ipv4_network(text: str) -> IPv4Network | None:
    """Return the IPv4 network that a tool or a setting names; None if it is something else."""
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def parse_json(text: str, kind: type[T] = dict) -> T:  # type: ignore[assignment]
    """Return the JSON document of that kind in a tool's output; an empty one if the output is anything else."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return kind()
    return parsed if isinstance(parsed, kind) else kind()
