"""What a hop says that is not well: which cause, in words, and what to type."""

from __future__ import annotations

import shlex
from typing import Any, Final

from labctl.model.kinds import ROUTE
from labctl.model.reports import HopState
from labctl.trace.causes import CAUSES

Evidence = dict[str, Any]
"""What was seen at a hop, ready to be JSON."""
BROKEN: Final = "broken"
WARNING: Final = "warning"
UNKNOWN: Final = "unknown"
UP = "Run `labctl up` to fix it."


class ProblemError(Exception):
    """A hop is not well. Where it is `broken` the request does not get past it; otherwise it goes on."""

    def __init__(
        self,
        cause: str,
        text: str,
        evidence: Evidence | None = None,
        *,
        fix: str | None = None,
        commands: tuple[str, ...] | None = None,
        state: HopState = BROKEN,
    ) -> None:
        super().__init__(text)
        if cause not in CAUSES:
            raise KeyError(cause)
        self.cause = cause
        self.text = text
        self.evidence: Evidence = evidence or {}
        self.fix = fix
        """None: what `labctl up` does."""
        self.commands = commands
        self.state = state


def labctl(lab: str, *words: str) -> str:
    """Return a command line of labctl for this lab."""
    return shlex.join(["labctl", "--name", lab, *words])


def kubectl_route(lab: str, verb: str, route: str, *words: str) -> str:
    """Return a kubectl line that changes the object `namespace/name` that routes a hostname."""
    namespace, _, name = route.partition("/")
    return kubectl(lab, "-n", namespace, verb, ROUTE.resource, name, *words)


def kubectl(lab: str, *words: str) -> str:
    """Return a command line of kubectl for this lab."""
    return labctl(lab, "exec", "--", "kubectl", *words)
