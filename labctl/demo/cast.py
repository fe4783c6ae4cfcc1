"""A recording that asciinema plays: asciicast, version 2."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.host.caller import give
from labctl.model.errors import UsageError
from labctl.model.recording import COLOUR, HEIGHT, TERMINAL, WIDTH, Recording

IDLE_SECONDS = 2
"""What players make of a longer silence."""
STILL = "\x1b[0m"
"""What a terminal is sent so that a silence is not a long one, and shows nothing of."""
SUFFIX = ".cast"
COMMAND = "labctl demo run"
"""What each recording says that it shows."""
REPORT = re.compile(rb"# [^\n]*\n\n- demo: [^\n]*\n- lab: [^\n]*\n- date: [^\n]*\n- versions: labctl ")
"""How each report begins."""


class Cast(Recording):
    """A stream that keeps what is written to it, and when.

    Raises UsageError `record-not-written` where its file, or the report's beside it, cannot be written, or is there
    already and none that labctl recorded.
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
        _refuse_others(self.path, self.report_path)
        for each in (self.path, self.report_path):
            _write(each, "", mode="a")
            give(each)
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

    def pause(self, seconds: float) -> None:
        """Let some seconds pass in which nothing is shown, in players as well that make silences shorter."""
        while seconds > 0:
            step = min(seconds, IDLE_SECONDS)
            self._began -= step
            seconds -= step
            self.write(STILL)

    def save(self, report: str) -> None:
        """The recording, and the report beside it, are written."""
        events = (json.dumps([round(seconds, 6), "o", text]) for seconds, text in self._events)
        header = {**self._header, "width": self._width()}
        _write(self.path, "".join(f"{line}\n" for line in (json.dumps(header), *events)))
        _write(self.report_path, report)

    def _width(self) -> int:
        """Return how wide a terminal has to be that shows every line as it was written."""
        shown = COLOUR.sub("", "".join(text for _, text in self._events))
        return max(WIDTH, *map(len, shown.splitlines() or [""]))


def _refuse_others(path: Path, report: Path) -> None:
    """Raise UsageError `record-not-written` for files that labctl did not record: what they hold would be lost."""
    looks = ((path, _is_recording), (report, REPORT.match))
    others = [str(each) for each, is_ours in looks if each.is_file() and (text := _read(each)) and not is_ours(text)]
    if others:
        raise UsageError(
            f"--record would overwrite {' and '.join(others)}, which labctl did not record",
            id="record-not-written",
            hint="Name another file, or move these away.",
        )


def _is_recording(content: bytes) -> bool:
    """Whether it is a recording of a demo that labctl played."""
    try:
        header = json.loads(content.partition(b"\n")[0])
    except ValueError:
        return False
    return isinstance(header, dict) and str(header.get("command", "")).startswith(COMMAND)


def _header(title: str, timestamp: int) -> dict[str, object]:
    environment = {"TERM": TERMINAL, "SHELL": os.environ.get("SHELL")}
    return {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "timestamp": timestamp,
        "idle_time_limit": IDLE_SECONDS,
        "title": title,
        "command": COMMAND,
        "env": {key: value for key, value in environment.items() if value},
    }


def _write(path: Path, text: str, mode: str = "w") -> None:
    with _explained(path), path.open(mode, encoding="utf-8") as file:
        file.write(text)


def _read(path: Path) -> bytes:
    with _explained(path):
        return path.read_bytes()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--record: cannot write {path}: {error.strerror}",
            id="record-not-written",
            hint="Name a file in a folder that you may write to.",
        ) from error
