"""Parsers of the headers WWW-Authenticate and Retry-After."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

BEARER, BASIC = "bearer", "basic"
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][\w-]*)(?:\s+(?!=)|(?=\s*,)|$)")
_PARAMETER = re.compile(r'\s*,?\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """An authentication challenge: its scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges of a WWW-Authenticate header, up to the first that cannot be parsed."""
    ways, position = [], 0
    while scheme := _SCHEME.match(header, position):
        position, parameters = scheme.end(), dict[str, str]()
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        ways.append(Challenge(scheme[1].lower(), parameters))
    return tuple(ways)


def retry_after(header: str | None, now: float | None = None) -> float | None:
    """Return the seconds until the number or date of a Retry-After header; None if it is missing or invalid."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # the asctime form has no time zone
    return max(0.0, moment - (time.time() if now is None else now))
