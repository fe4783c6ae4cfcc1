"""Requests and answers, as values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server. A body in pieces is generated each time it is sent; its length is in the headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Callable[[], Iterable[bytes]] | None = field(default=None, repr=False)
    silence: float | None = None
    """How many seconds the server may be silent, if not as long as usual."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A short answer, as a whole."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever the server sent
        """Return the content, read as JSON. Raises ValueError."""
        return json.loads(self.content)


def origin(url: str) -> tuple[str, str]:
    """Return the scheme, and the host with the port unless that is the scheme's own; nothing of what is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.rpartition("@")[2].lower().removesuffix(_PORTS.get(parts.scheme, ":"))
