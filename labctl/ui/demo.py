"""How a demo is shown while it is played: on a terminal, as plain lines, and in a recording."""

from __future__ import annotations

import io
import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from labctl.model.errors import LabError
from labctl.model.reports import DemoReport, ExpectationReport, LoadReport
from labctl.ui.screen import UNICODE, Symbols, console, one_line, printable, symbols

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

RECORDED_WIDTH, RECORDED_HEIGHT, RECORDED_TERMINAL = 100, 30, "xterm-256color"
"""The terminal of a recording, for prose; it is wider where the output of a command is."""
WIDEST = 180
"""Where lines of a recording are broken between words at last."""
READ, SKIMMED = 20, 60
"""Letters a second: of prose, and of what programs say."""
LONGEST_PAUSE = 15.0
BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
FULL_RATE = 10
"""Good answers a second that make a bar of full height, if no second has more."""
SHORTEST = 0.1
"""Seconds that are worth telling."""
COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")


def chart(load: LoadReport, bars: str = BARS) -> list[str]:
    """Good answers, a character for each whole second; and below, the second in which the first command was run."""
    whole = load["per_second"][: int(load["seconds"])] or load["per_second"]
    most = max(FULL_RATE, *whole)
    line = "".join(bars[math.ceil(count / most * (len(bars) - 1))] for count in whole)
    if load["first_command"] is None:
        return [line]
    return [line, " " * int(load["first_command"]) + "^ the first command"]


def load_text(load: LoadReport) -> str:
    """The numbers of a scene's traffic in words."""
    failures = f"{load['failures']} failure{'s' * (load['failures'] != 1)}"
    return (
        f"http://{load['hostname']}: {load['answers']} good answers and {failures} in {load['seconds']:.1f} s, "
        f"the longest gap {load['gap']:.1f} s"
    )


def demo_result(report: DemoReport, stdout: TextIO) -> None:
    """How the demo ended, in one line."""
    state = "ok" if report["ok"] else "failed"
    count = len(report["scenes"])
    print(
        f"demo {report['demo']}: {state}, {count} scene{'s' * (count != 1)} in {report['seconds']:.1f} s", file=stdout
    )


class Recording(io.StringIO, ABC):
    """A stream that is looked at later, in a time of its own."""

    @abstractmethod
    def skip(self, seconds: float) -> None:
        """Leave the last seconds out."""

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Give who looks at it some seconds to read."""


@dataclass(frozen=True, slots=True)
class _Screen:
    console: Console
    signs: Symbols
    is_recorded: bool = False

    @property
    def bars(self) -> str:
        return BARS if self.signs is UNICODE else ASCII_BARS

    def print(self, text: Text) -> None:
        """Print lines as they are; those of a recording are broken where no terminal would be wide enough."""
        self.console.print(text, soft_wrap=not self.is_recorded)


class Stage:
    """Where a demo is shown: on a stream, if there is one, and in a recording, if one is made."""

    def __init__(self, stream: TextIO | None, recording: Recording | None, stdin: TextIO | None) -> None:
        screens = [] if stream is None else [_Screen(console(stream), symbols(stream))]
        self._stdin = stdin
        self._stream = stream
        self._recording = recording
        self._unread = ""
        """What commands have said in the recording since there was time to read it."""
        recorded = [] if recording is None else [_Screen(_recorder(recording), UNICODE, is_recorded=True)]
        self._screens = [*screens, *recorded]

    @property
    def environment(self) -> dict[str, str]:
        """What makes programs show colours, where the stage has any: they see a pipe."""
        if not any(screen.console.color_system and not screen.console.no_color for screen in self._screens):
            return {}
        terminal = os.environ.get("TERM", "dumb")
        return {"FORCE_COLOR": "1", "TERM": RECORDED_TERMINAL if terminal in {"dumb", "unknown"} else terminal}

    @contextmanager
    def hidden(self, *, hide: bool) -> Iterator[None]:
        """Leave out of the recording what is shown meanwhile, and the time that it takes, if it is to be hidden."""
        if not hide or self._recording is None:
            yield
            return
        self._pause()
        screens, recording, began = self._screens, self._recording, time.monotonic()
        self._screens, self._recording = [screen for screen in screens if not screen.is_recorded], None
        try:
            yield
        finally:
            self._screens, self._recording = screens, recording
            recording.skip(time.monotonic() - began)

    def scene(self, number: int, count: int, title: str, say: str | None) -> None:
        """A scene begins."""
        self._pause()
        self._text(("\n", ""), (f"{number}/{count} {one_line(title)}", "bold cyan"))
        for paragraph in (say or "").split("\n\n"):
            if paragraph.strip():
                self._wrapped(one_line(paragraph))
        self._pause(f"{title} {say or ''}")

    def command(self, line: str, read: str | None) -> None:
        """A command is run, which reads a text or nothing."""
        self._pause()
        self._text(("\n$ ", "bold green"), (printable(line), "bold"))
        for each in (read or "").splitlines():
            self._text(("  ", ""), (printable(each), "dim"))
        self._pause(line)
        self._unread += read or ""

    def output(self, line: str) -> None:
        """A command said a line; its colours stay, and nothing else that a terminal would act upon."""
        from rich.text import Text  # noqa: PLC0415 - see console()

        for screen in self._screens:
            screen.print(Text.from_ansi(_coloured(line)))
        self._unread += f" {line}"

    def expectation(self, report: ExpectationReport) -> None:
        """Something was expected, and this was measured."""
        self._pause()
        for screen in self._screens:
            sign, style = (screen.signs.changed, "green") if report["ok"] else (screen.signs.failed, "bold red")
            took = f" ({report['seconds']:.1f} s)" if report["seconds"] >= SHORTEST else ""
            measured = f": {one_line(report['measured'])}{took}"
            _print(screen, (f"{sign} ", style), (one_line(report["text"]), ""), (measured, "dim"))
        self._unread = f"{report['text']} {report['measured']}"

    def load(self, load: LoadReport) -> None:
        """What the client saw that asked all the while."""
        self._pause()
        for screen in self._screens:
            _print(screen, (load_text(load), "bold"))
            for line in chart(load, screen.bars):
                _print(screen, ("  ", ""), (line, "cyan"))
        self._pause(load_text(load))

    def clean_up(self) -> None:
        """Cleaning up begins."""
        self._pause()
        self._text(("\nCleaning up", "bold cyan"))

    def error(self, error: LabError) -> None:
        """The recording, which has no standard error, ends with what went wrong."""
        self._pause()
        for screen in self._screens:
            if screen.console.file is not self._stream:
                _print(
                    screen, ("\nerror: ", "bold red"), ("\n  ".join(map(printable, error.message.splitlines())), "red")
                )
                _print(screen, ("hint: ", "bold"), (one_line(error.hint), ""))

    def end(self) -> None:
        """Leave time to read what was shown last."""
        self._pause()

    def recorded(self, paths: Sequence[str]) -> None:
        """These files were written."""
        if self._stream is not None:
            print(f"\nrecorded: {', '.join(paths)}", file=self._stream, flush=True)

    def wait_for_enter(self) -> float:
        """The user wants to go on; returns after how many seconds. Nobody is asked where there is no terminal."""
        if self._stdin is None or self._stream is None:
            return 0.0
        began = time.monotonic()
        print("\nEnter goes on, Ctrl-C ends ", end="", file=self._stream, flush=True)
        self._stdin.readline()
        waited = time.monotonic() - began
        if self._recording is not None:
            self._recording.skip(waited)
        return waited

    def _pause(self, prose: str | None = None) -> None:
        """Give time to read what commands have said by now, or this prose."""
        seconds = _letters(self._unread) / SKIMMED if prose is None else max(1.0, _letters(prose) / READ)
        self._unread = ""
        if self._recording is not None and seconds:
            self._recording.pause(min(seconds, LONGEST_PAUSE))

    def _text(self, *pieces: tuple[str, str]) -> None:
        for screen in self._screens:
            _print(screen, *pieces)

    def _wrapped(self, text: str) -> None:
        from rich.text import Text  # noqa: PLC0415 - see console()

        for screen in self._screens:
            width = RECORDED_WIDTH if screen.is_recorded else None
            screen.console.print(Text(f"\n{text}"), width=width)


def _print(screen: _Screen, *pieces: tuple[str, str]) -> None:
    from rich.text import Text  # noqa: PLC0415 - see console()

    text: Text = Text.assemble(*pieces)
    screen.print(text)


def _letters(text: str) -> int:
    return len(" ".join(COLOUR.sub("", text).split()))


def _coloured(line: str) -> str:
    """The line with its colours, and without any other escape sequence or control character."""
    return "".join(piece if COLOUR.fullmatch(piece) else printable(piece) for piece in COLOUR.split(line))


def _recorder(stream: TextIO) -> Console:
    """The terminal that a recording shows, whatever terminal there is."""
    from rich.console import Console  # noqa: PLC0415 - see console()

    return Console(
        file=stream,
        color_system=None if os.environ.get("NO_COLOR") else "256",
        force_terminal=True,
        width=WIDEST,
        height=RECORDED_HEIGHT,
        markup=False,
        highlight=False,
        emoji=False,
    )
