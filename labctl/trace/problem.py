"""A problem at a hop: its cause, its description, and the fix."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from labctl.model.kinds import ROUTE
from labctl.model.reports import HopState
from labctl.trace.causes import CAUSES

Evidence = dict[str, Any]
"""What was observed at a hop, as JSON values."""
BROKEN: Final = "broken"
WARNING: Final = "warning"
UNKNOWN: Final = "unknown"
UP = "Run `labctl up` to fix it."


class ProblemError(Exception):
    """A problem at a hop. A `broken` hop stops the request; with any other state the request continues."""

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
        """None means that `labctl up` fixes it."""
        self.commands = commands
        self.state = state

    def within(self, text: str, evidence: Evidence, state: HopState = BROKEN) -> ProblemError:
        """Return the problem with another text, evidence and state."""
        return ProblemError(self.cause, text, evidence, fix=self.fix, commands=self.commands, state=state)


def labctl(lab: str, *words: str) -> str:
    """Return a labctl command for this lab."""
    return shlex.join(["labctl", "--name", lab, *words])


def kubectl_route(lab: str, verb: str, route: str, *words: str) -> str:
    """Return a kubectl command that changes the object `namespace/name` that routes a hostname."""
    namespace, _, name = route.partition("/")
    return kubectl(lab, "-n", namespace, verb, ROUTE.resource, name, *words)


def patch_service(lab: str, service: Mapping[str, Any], change: object, kind: str = "merge") -> str:
    """Return a kubectl command that changes a Service."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    content = json.dumps(change, separators=(",", ":"))
    return kubectl(lab, "-n", namespace, "patch", "service", name, f"--type={kind}", "-p", content)


def kubectl(lab: str, *words: str) -> str:
    """Return a kubectl command for this lab."""
    return labctl(lab, "exec", "--", "kubectl", *words)
