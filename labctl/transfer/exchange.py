"""Requests and answers, as values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server. The length of a body in pieces is in the headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Iterable[bytes] | None = field(default=None, repr=False)
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
