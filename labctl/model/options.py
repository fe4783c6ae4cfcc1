"""The options that every command has."""

from __future__ import annotations

from typing import Literal

Output = Literal["text", "json"]
"""The format of answers."""
