"""README's pictures of a terminal, docs/up.svg, docs/status.svg and docs/trace.svg, from a lab that comes up for them.

Usage, as root, with a bundle in the cache and no lab of that name: python docs/pictures.py [LAB]

The lab stays up afterwards: `labctl --name LAB destroy` removes it. What is measured in the pictures is this machine's;
where its user's folders are is not in them.
"""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

FOLDER = Path(__file__).parent
COMMANDS = {"up": ("up", "--isolated"), "status": ("status",), "trace": ("trace",)}
"""What each picture shows, as typed where a lab is isolated anyway; and what is run, so that it is here as well."""
ROWS, COLUMNS = 50, 125
TERMINAL = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
NOT_THE_TERMINALS = ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "LC_ALL", "COLUMNS", "LINES")
USUAL_FOLDERS = {"XDG_STATE_HOME": "~/.local/state", "XDG_CACHE_HOME": "~/.cache", "HOME": "~"}
READ_BYTES = 1 << 16
PIECE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+|.")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    """Bring the lab up, look at it, and write a picture of each command."""
    named = ("--name", sys.argv[1]) if len(sys.argv) > 1 else ()
    for name, words in COMMANDS.items():
        sent = sent_to_terminal([sys.executable, "-m", "labctl", *named, *words])
        path = FOLDER / f"{name}.svg"
        path.write_text(picture(f"labctl {name}", screen(with_usual_folders(sent, os.environ))), encoding="utf-8")
        print(path)


def sent_to_terminal(line: Sequence[str]) -> str:
    """All that a command sends to a terminal until its end. Raises SystemExit if that is not a good one."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_THE_TERMINALS}
    outer, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (ROWS, COLUMNS))
    with subprocess.Popen(line, stdin=terminal, stdout=terminal, stderr=terminal, env={**kept, **TERMINAL}) as child:
        os.close(terminal)
        sent = b"".join(iter(partial(_read, outer), b"")).decode()
    os.close(outer)
    if child.returncode != 0:
        sys.exit(f"{' '.join(line)} ended with {child.returncode}:\n{sent}")
    return sent


def with_usual_folders(text: str, environment: Mapping[str, str]) -> str:
    """The text as it would be where this user's folders are the usual ones, below a home that nobody's name is in."""
    for variable, usual in USUAL_FOLDERS.items():
        if folder := environment.get(variable, "").rstrip("/"):
            text = re.sub(rf"(?<!\w){re.escape(folder)}\b", usual, text)
    return text


def screen(sent: str) -> list[str]:
    """The lines that a terminal shows after all that was sent to it, each with its colours.

    A line may be erased and written anew, as rich does. Raises ValueError for whatever else a cursor can do.
    """
    lines, row, at_start = [""], 0, True
    for piece in PIECE.findall(sent):
        if piece == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif piece == "\r":
            at_start = True
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif COLOUR.fullmatch(piece):
            lines[row] += piece
        elif piece.isprintable() and not (at_start and COLOUR.sub("", lines[row])):
            lines[row] += piece
            at_start = False
        elif piece not in {"\x1b[?25l", "\x1b[?25h"}:
            raise ValueError(f"what the screen shows after {piece!r} is not known")
    while lines and not COLOUR.sub("", lines[-1]):
        lines.pop()
    return lines


def picture(command: str, lines: Sequence[str]) -> str:
    """An SVG of a terminal in which the command was typed and has answered with these lines; the same each time."""
    console = Console(
        record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="256", no_color=False
    )
    typed = Text.assemble(("$ ", "bold green"), (command, "bold"))
    for text in (typed, *map(Text.from_ansi, lines)):
        for row in text.divide(range(COLUMNS, len(text), COLUMNS)):
            console.print(row, soft_wrap=True)
    return console.export_svg(title=command, theme=SVG_EXPORT_THEME, unique_id=command.replace(" ", "-"))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that nothing has the terminal open any more
            return b""
        raise


if __name__ == "__main__":
    main()
