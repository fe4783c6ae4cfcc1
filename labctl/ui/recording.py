"""Recordings of demos that asciinema plays: asciicast, version 2."""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.host.caller import give_to_caller
from labctl.model.errors import UsageError

WIDTH, HEIGHT, TERMINAL = 100, 30, "xterm-256color"
"""The terminal of a recording. Prose is wrapped to this width; wider output of a command widens the recording."""
COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
"""The escape sequence of a colour."""
IDLE_SECONDS = 2
"""Players shorten longer pauses to this."""
STILL = "\x1b[0m"
"""Changes nothing on a terminal; splits a long pause into short ones."""
OURS = {".cast": b'"command": "labctl demo run"', ".md": b"\n- versions: labctl "}
"""Text that every file recorded by labctl contains."""


class Cast(io.StringIO):
    """A stream that records what is written to it, with timestamps.

    Raises UsageError `record-not-written` if the file or the report next to it cannot be written, or has content that
    labctl did not record.
    """

    def __init__(
        self,
        path: Path,
        title: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.files = [path.with_suffix(suffix) for suffix in OURS]
        if path not in self.files[:1]:
            raise UsageError(
                f"--record {path}: its name must end in .cast",
                id="record-not-written",
                hint=f"`--record {path.name}.cast`; the report is written next to it, as a .md file.",
            )
        for file in self.files:
            with _translate_errors(file):
                content = file.read_bytes() if file.exists() else b""
                if content and OURS[file.suffix] not in content:
                    raise UsageError(
                        f"--record would overwrite {file}, which labctl did not record",
                        id="record-not-written",
                        hint="Name another file, or move this one away.",
                    )
        for file in self.files:
            with _translate_errors(file):
                file.open("a").close()
                give_to_caller(file)
        self._title, self._timestamp, self._clock = title, int(now()), clock
        self._began = clock()
        self._events: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        """Record the text with the current time."""
        if text:
            before = self._events[-1][0] if self._events else 0.0
            self._events.append((max(before, self._clock() - self._began), text.replace("\n", "\r\n")))
        return len(text)

    def skip(self, seconds: float) -> None:
        """Omit the last seconds."""
        self._began += seconds

    def pause(self, seconds: float) -> None:
        """Give the viewer time to read: add seconds without output, in steps that players do not shorten."""
        while seconds > 0:
            step = min(seconds, IDLE_SECONDS)
            self._began -= step
            seconds -= step
            self.write(STILL)

    def save(self, report: str) -> list[str]:
        """Write the recording, and the report next to it; return the names of the files."""
        shown = COLOUR.sub("", "".join(text for _, text in self._events)).splitlines()
        environment = {"TERM": TERMINAL, "SHELL": os.environ.get("SHELL")}
        header = {
            "version": 2,
            "width": max(WIDTH, *map(len, shown or [""])),
            "height": HEIGHT,
            "timestamp": self._timestamp,
            "idle_time_limit": IDLE_SECONDS,
            "title": self._title,
            "command": "labctl demo run",
            "env": {key: value for key, value in environment.items() if value},
        }
        events = ([round(seconds, 6), "o", text] for seconds, text in self._events)
        cast = "".join(f"{json.dumps(line)}\n" for line in (header, *events))
        for file, text in zip(self.files, (cast, report), strict=True):
            with _translate_errors(file):
                file.write_text(text, encoding="utf-8")
        return [str(file) for file in self.files]


@contextmanager
def _translate_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--record: cannot write {file}: {error.strerror}",
            id="record-not-written",
            hint="Name a file in a folder that you can write to.",
        ) from error
