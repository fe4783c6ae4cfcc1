"""The ways to make a node's system, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Way:
    """A way to make a node's system, and the text that announces it, with keys of the recipe's node in braces."""

    name: str
    announcement: str


MMDEBSTRAP = Way("mmdebstrap", "making the node's system from Debian {suite}'s packages, about a minute")
ENGINE = Way(
    "engine",
    "making the node's system from Debian {suite}'s packages in Docker, on the image {image},"
    " because mmdebstrap is not installed: about three minutes",
)


def choose(*, has_mmdebstrap: bool, has_apt: bool, has_engine: Callable[[], bool]) -> Way:
    """Return the Engine's way if an Engine answers and mmdebstrap is neither installed nor installable with apt."""
    return ENGINE if not has_mmdebstrap and not has_apt and has_engine() else MMDEBSTRAP
