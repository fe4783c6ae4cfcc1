"""Run a command on a terminal of its own, and know what the terminal was sent and when."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyte

ROWS, COLUMNS = 200, 200
"""Larger than what any command here prints, so that nothing scrolls away and no line is broken."""
TERMINAL = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
NOT_THE_TERMINALS = ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "LC_ALL", "COLUMNS", "LINES")
USUAL_FOLDERS = {"XDG_STATE_HOME": "~/.local/state", "XDG_CACHE_HOME": "~/.cache", "HOME": "~"}
READ_BYTES = 1 << 16
STYLE = re.compile(r"\x1b\[([0-9;]*)m")
DIM, GREY = "2", "90"

Event = tuple[float, str]
"""Seconds since the beginning, and the text that the terminal was sent then."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A command that ran on a terminal to its end."""

    command: str
    events: tuple[Event, ...]
    code: int


def record(command: str, environment: Mapping[str, str]) -> Recording:
    """Run a shell command to its end and return what it sent to its terminal."""
    kept = {name: value for name, value in environment.items() if name not in NOT_THE_TERMINALS}
    outer, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (ROWS, COLUMNS))
    began = time.monotonic()
    events: list[Event] = []
    line = ["/bin/sh", "-c", command]
    with subprocess.Popen(line, stdin=terminal, stdout=terminal, stderr=terminal, env={**kept, **TERMINAL}) as child:
        os.close(terminal)
        rest = b""
        while sent := _read(outer):
            # A character may be cut off at the end of what was read.
            whole = (rest + sent).decode(errors="ignore").encode()
            rest = (rest + sent)[len(whole) :]
            events.append((time.monotonic() - began, with_usual_folders(whole.decode(), environment)))
    os.close(outer)
    return Recording(command, tuple(events), child.returncode)


def with_usual_folders(text: str, environment: Mapping[str, str]) -> str:
    """Return the text as it would be in a home that is anybody's, with labctl's folders in their usual places."""
    for variable, usual in USUAL_FOLDERS.items():
        if folder := environment.get(variable, "").rstrip("/"):
            text = re.sub(rf"(?<!\w){re.escape(folder)}\b", usual, text)
    return text


class Screen(pyte.Screen):
    """A terminal's screen; dim text, which pyte does not know, is grey."""

    def __init__(self, columns: int = COLUMNS, rows: int = ROWS) -> None:
        super().__init__(columns, rows)
        self._stream = pyte.Stream(self)

    def feed(self, text: str) -> None:
        """Show a text that the terminal was sent."""
        self._stream.feed(STYLE.sub(_grey_for_dim, text))


def shown(events: Iterable[Event]) -> list[str]:
    """Return the lines that stand on the terminal after all that it was sent."""
    screen = Screen()
    for _, text in events:
        screen.feed(text)
    return [line.rstrip() for line in "\n".join(screen.display).rstrip().splitlines()]


def _grey_for_dim(style: re.Match[str]) -> str:
    codes = style[1].split(";")
    has_colour_number = {"38", "48"} & set(codes)
    return style[0] if has_colour_number else f"\x1b[{';'.join(GREY if code == DIM else code for code in codes)}m"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that nothing has the terminal open any more
            return b""
        raise
