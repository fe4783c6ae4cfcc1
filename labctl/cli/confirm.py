"""Confirmation before something is removed."""

from __future__ import annotations

import sys

from labctl import ui
from labctl.model.errors import UsageError


def confirm(question: str) -> None:
    """Return if the user agrees. Raises UsageError otherwise, and if there is no terminal to ask on."""
    if not ui.confirm(question, sys.stdin, sys.stderr):
        raise UsageError(
            "not confirmed; nothing was done", id="not-confirmed", hint="Use `--yes` to skip the question."
        )
