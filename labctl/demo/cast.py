"""A recording that asciinema plays: asciicast, version 2."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from labctl.errors import UsageError
from labctl.ui import RECORDED_HEIGHT, RECORDED_TERMINAL, RECORDED_WIDTH

IDLE_SECONDS = 2
"""What players make of a longer silence."""
SUFFIX = ".cast"


class Cast(io.StringIO):
    """A stream that keeps what is written to it, and when.

    Raises UsageError `record-not-written` where its file, or the report's beside it, cannot be written.
    """

    def __init__(
        self,
        path: Path,
        title: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        if path.suffix != SUFFIX:
            raise UsageError(
                f"--record {path}: its name must end in {SUFFIX}",
                id="record-not-written",
                hint=f"`--record {path.name}{SUFFIX}`; the report is written beside it, with the ending .md.",
            )
        self.path = path
        self.report_path = path.with_suffix(".md")
        for each in (self.path, self.report_path):
            _write(each, "", mode="a")
        self._header = _header(title, int(now()))
        self._clock = clock
        self._began = clock()
        self._events: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        """The text is what the terminal shows from now on."""
        if text:
            before = self._events[-1][0] if self._events else 0.0
            self._events.append((max(before, self._clock() - self._began), text.replace("\n", "\r\n")))
        return len(text)

    def skip(self, seconds: float) -> None:
        """The last `seconds` did not happen."""
        self._began += seconds

    def save(self, report: str) -> None:
        """The recording, and the report beside it, are written."""
        events = (json.dumps([round(seconds, 6), "o", text]) for seconds, text in self._events)
        _write(self.path, "".join(f"{line}\n" for line in (json.dumps(self._header), *events)))
        _write(self.report_path, report)


def _header(title: str, timestamp: int) -> dict[str, object]:
    environment = {"TERM": RECORDED_TERMINAL, "SHELL": os.environ.get("SHELL")}
    return {
        "version": 2,
        "width": RECORDED_WIDTH,
        "height": RECORDED_HEIGHT,
        "timestamp": timestamp,
        "idle_time_limit": IDLE_SECONDS,
        "title": title,
        "env": {key: value for key, value in environment.items() if value},
    }


def _write(path: Path, text: str, mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"--record: cannot write {path}: {error.strerror}",
            id="record-not-written",
            hint="Name a file in a folder that you may write to.",
        ) from error
