"""The options that every command has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Output = Literal["text", "json"]
"""The format of answers."""


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options given before or after the command."""

    config_file: Path | None
    lab_name: str | None
    output: Output
    verbosity: int
    """-1 for `-q`, 1 for `-v`."""
