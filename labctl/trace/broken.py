"""What a hop is told by that is broken."""

from __future__ import annotations

from typing import Any

Evidence = dict[str, Any]
"""What was seen at a hop, ready to be JSON."""


class BrokenHopError(Exception):
    """The request does not get past this hop: why, what to do about it, and what was seen."""

    def __init__(self, cause: str, fix: str, evidence: Evidence | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix
        self.evidence: Evidence = evidence or {}
