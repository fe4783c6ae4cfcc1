"""What a stream can show: colours, a line that changes, and characters beyond ASCII."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console

SIZES = ("COLUMNS", "LINES")
ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|.)?")


@dataclass(frozen=True, slots=True)
class Symbols:
    """Signs for a step's line and a path, the frames of the spinner, and how rich truncates a long line."""

    changed: str
    unchanged: str
    failed: str
    path: str
    spinner: str
    overflow: Literal["ellipsis", "crop"]


UNICODE = Symbols("✓", "·", "✗", "│", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "ellipsis")
ASCII = Symbols("+", "-", "x", "|", "|/-\\", "crop")


def console(stream: TextIO) -> Console:
    """Return a console that prints text unchanged, and without colours and bold type if NO_COLOR is set."""
    from rich.console import Console  # noqa: PLC0415 - takes longer than most commands; JSON never needs it

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))  # rich would exit with code 1

    return Screen(
        file=stream,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,
        highlight=False,
        emoji=False,
        # A terminal of unknown size reports 0 for both, and rich would print nothing.
        _environ={name: value for name, value in os.environ.items() if name not in SIZES or value.strip("0")},
    )


def is_live(stream: TextIO) -> bool:
    """Return whether a line on this stream can be rewritten."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def symbols(stream: TextIO) -> Symbols:
    """Return the signs that this stream can show."""
    # Not LC_CTYPE: Python itself sets that to UTF-8 in the C locale (PEP 538).
    locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    encoding = stream.encoding or "utf-8"
    return UNICODE if "utf" in locale.lower() and "utf" in encoding.lower() else ASCII


def printable(line: str) -> str:
    """Return a line of foreign text without escape sequences and control characters; its columns stay in place."""
    return "".join(character for character in ESCAPE_SEQUENCE.sub("", line).expandtabs() if character.isprintable())


def one_line(text: str) -> str:
    """Return foreign text as printable words with one space between them."""
    return " ".join(" ".join(printable(line) for line in text.splitlines()).split())
