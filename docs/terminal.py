"""Run a command on a pseudo-terminal, and record its output with times."""

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
"""Larger than any output here, so that nothing scrolls away and no line wraps."""
TERMINAL = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
NOT_THE_TERMINALS = ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "LC_ALL", "COLUMNS", "LINES")
USUAL_FOLDERS = {"XDG_STATE_HOME": "~/.local/state", "XDG_CACHE_HOME": "~/.cache", "HOME": "~"}
READ_BYTES = 1 << 16
STYLE = re.compile(r"\x1b\[([0-9;]*)m")
DIM, GREY = "2", "90"

Event = tuple[float, str]
"""Seconds since the start, and the text that the program wrote."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A command that ran on a terminal, its output and its exit code."""

    command: str
    events: tuple[Event, ...]
    code: int


def record(command: str, environment: Mapping[str, str]) -> Recording:
    """Run a shell command until it exits and return its output on the terminal."""
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
            # A read may end in the middle of a character.
            whole = (rest + sent).decode(errors="ignore").encode()
            rest = (rest + sent)[len(whole) :]
            events.append((time.monotonic() - began, with_usual_folders(whole.decode(), environment)))
    os.close(outer)
    return Recording(command, tuple(events), child.returncode)


def with_usual_folders(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with labctl's folders replaced by their default places below `~`."""
    for variable, usual in USUAL_FOLDERS.items():
        if folder := environment.get(variable, "").rstrip("/"):
            text = re.sub(rf"(?<!\w){re.escape(folder)}\b", usual, text)
    return text


class Screen(pyte.Screen):
    """A terminal's screen; dim text, which pyte does not support, is grey."""

    def __init__(self, columns: int = COLUMNS, rows: int = ROWS) -> None:
        super().__init__(columns, rows)
        self._stream = pyte.Stream(self)

    def feed(self, text: str) -> None:
        """Show a text that a program wrote."""
        self._stream.feed(STYLE.sub(_grey_for_dim, text))


def shown(events: Iterable[Event]) -> list[str]:
    """Return the lines of the screen after these events."""
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
        if error.errno == errno.EIO:  # Linux: no process has the terminal open any more
            return b""
        raise
