"""HTTP requests and responses, as values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. A body that is a function is generated anew for each attempt; the headers have its length."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Callable[[], Iterable[bytes]] | None = field(default=None, repr=False)
    silence: float | None = None
    """The read timeout in seconds, if not the default."""


@dataclass(frozen=True, slots=True)
class FullResponse:
    """A short response, read completely."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever the server sent
        """Parse the content as JSON. Raises ValueError."""
        return json.loads(self.content)


def origin(url: str) -> tuple[str, str]:
    """Return the scheme, and the host with any port but the scheme's default; both empty for an invalid URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.rpartition("@")[2].lower().removesuffix(_PORTS.get(parts.scheme, ":"))
