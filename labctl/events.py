"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["started", "progress", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a step. `changed` is set when the step is done, `seconds` also when it failed."""

    step: str
    state: State
    text: str = ""
    changed: bool | None = None
    seconds: float | None = None


Emit = Callable[[Event], None]
Say = Callable[[str], None]
"""How code below the plan reports progress: a line of text about the step that runs now."""
