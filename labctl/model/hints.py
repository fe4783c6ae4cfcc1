"""Hints: text for the user that quotes commands."""

from __future__ import annotations

import re
import shlex


def with_lab_name(text: str, lab: str | None) -> str:
    """Add `--name` to each labctl command that the text quotes, unless it has the option or no lab is named."""
    if not lab:
        return text
    return re.sub(r"(?<=`)labctl (?!--name )", lambda _command: f"labctl --name {shlex.quote(lab)} ", text)
