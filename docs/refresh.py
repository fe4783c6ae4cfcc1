"""Run the tutorial, write its commands' output into docs/tutorial.md, and draw docs/terminal.svg.

Usage, as root, with a bundle in the cache, no reachable Docker Engine and no lab named demo: python docs/refresh.py

Commands are in blocks of the language `console`, each after a `$`; the output below each is replaced. The tutorial
destroys its lab at the end.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from animation import picture
from terminal import COLUMNS, Event, Recording, record, shown

FOLDER = Path(__file__).parent
PAGE, PICTURE = FOLDER / "tutorial.md", FOLDER / "terminal.svg"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROMPT = "$ "
IN_PICTURE = ("labctl up", "labctl trace")
FINE = (0, 8)
"""Accepted exit codes; a trace that finds a broken hop exits with 8."""
KEY_SECONDS, PAUSE_SECONDS = 0.07, 1.5
SPEED = 3.0
"""How much faster the animation plays; the seconds that labctl prints stay as they were."""
SCREEN = {"columns": COLUMNS, "rows": 60}


def main() -> None:
    """Run every command, and write the page and the picture."""
    text = PAGE.read_text(encoding="utf-8")
    recordings: list[Recording] = []
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    text = BLOCK.sub(lambda block: _answered(block[0], environment, recordings), text)
    PAGE.write_text(text, encoding="utf-8")
    first = {each.command: each for each in reversed(recordings)}
    events = session([first[command] for command in IN_PICTURE])
    title = f"labctl up, labctl trace ({SPEED:.0f} times as fast as they ran)"
    PICTURE.write_text(picture(events, title, **SCREEN, speed=SPEED), encoding="utf-8")


def commands(block: str) -> list[str]:
    """Return the commands of a console block."""
    return [line.removeprefix(PROMPT) for line in block.splitlines() if line.startswith(PROMPT)]


def session(recordings: Sequence[Recording]) -> list[Event]:
    """Return the output of a terminal on which these commands are typed and run, one after the other."""
    events: list[Event] = []
    now = 0.0
    for recording in recordings:
        events.append((now, f"\x1b[1;32m{PROMPT}\x1b[0m"))
        now += PAUSE_SECONDS
        for key in recording.command:
            events.append((now, f"\x1b[1m{key}\x1b[0m"))
            now += KEY_SECONDS * SPEED
        events.append((now, "\r\n"))
        events.extend((now + seconds, sent) for seconds, sent in recording.events)
        now = events[-1][0] + PAUSE_SECONDS * SPEED
    return events


def _answered(block: str, environment: Mapping[str, str], recordings: list[Recording]) -> str:
    """Run the block's commands and return it with their new output. Exit if a command fails."""
    lines = []
    for command in commands(block):
        recording = record(command, environment)
        printed = shown(recording.events)
        if recording.code not in FINE:
            sys.exit("\n".join([f"{command} ended with {recording.code}:", *printed]))
        recordings.append(recording)
        lines += [PROMPT + command, *printed]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
