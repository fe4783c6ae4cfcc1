"""How a demo is shown while it is played: on a terminal, as plain lines, and in a recording."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from labctl.errors import LabError
from labctl.report import DemoReport, ExpectationReport, LoadReport
from labctl.ui.screen import UNICODE, Symbols, console, one_line, printable, symbols

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

RECORDED_WIDTH, RECORDED_HEIGHT, RECORDED_TERMINAL = 100, 30, "xterm-256color"
BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
FULL_RATE = 10
"""Good answers a second that make a bar of full height, if no second has more."""
SHORTEST = 0.1
"""Seconds that are worth telling."""
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")


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


@dataclass(frozen=True, slots=True)
class _Screen:
    console: Console
    signs: Symbols

    @property
    def bars(self) -> str:
        return BARS if self.signs is UNICODE else ASCII_BARS


class Stage:
    """Where a demo is shown: on a stream, if there is one, and in a recording, if one is made."""

    def __init__(self, stream: TextIO | None, recorded: TextIO | None, stdin: TextIO | None) -> None:
        screens = [] if stream is None else [_Screen(console(stream), symbols(stream))]
        self._stdin = stdin
        self._stream = stream
        self._screens = [*screens, *([] if recorded is None else [_Screen(_recorder(recorded), UNICODE)])]

    @property
    def environment(self) -> dict[str, str]:
        """What makes programs show colours, where the stage has any: they see a pipe."""
        if not any(screen.console.color_system and not screen.console.no_color for screen in self._screens):
            return {}
        terminal = os.environ.get("TERM", "dumb")
        return {"FORCE_COLOR": "1", "TERM": RECORDED_TERMINAL if terminal in {"dumb", "unknown"} else terminal}

    def scene(self, number: int, count: int, title: str, say: str | None) -> None:
        """A scene begins."""
        self._text(("\n", ""), (f"{number}/{count} {one_line(title)}", "bold cyan"))
        for paragraph in (say or "").split("\n\n"):
            if paragraph.strip():
                self._wrapped(one_line(paragraph))

    def command(self, line: str, read: str | None) -> None:
        """A command is run, which reads a text or nothing."""
        self._text(("\n$ ", "bold green"), (printable(line), "bold"))
        for each in (read or "").splitlines():
            self._text(("  ", ""), (printable(each), "dim"))

    def output(self, line: str) -> None:
        """A command said a line; its colours stay, and nothing else that a terminal would act upon."""
        from rich.text import Text  # noqa: PLC0415 - see console()

        for screen in self._screens:
            screen.console.print(Text.from_ansi(_coloured(line)), soft_wrap=True)

    def expectation(self, report: ExpectationReport) -> None:
        """Something was expected, and this was measured."""
        for screen in self._screens:
            sign, style = (screen.signs.changed, "green") if report["ok"] else (screen.signs.failed, "bold red")
            took = f" ({report['seconds']:.1f} s)" if report["seconds"] >= SHORTEST else ""
            measured = f": {one_line(report['measured'])}{took}"
            _print(screen, (f"{sign} ", style), (one_line(report["text"]), ""), (measured, "dim"))

    def load(self, load: LoadReport) -> None:
        """What the client saw that asked all the while."""
        for screen in self._screens:
            _print(screen, (load_text(load), "bold"))
            for line in chart(load, screen.bars):
                _print(screen, ("  ", ""), (line, "cyan"))

    def clean_up(self) -> None:
        """Cleaning up begins."""
        self._text(("\nCleaning up", "bold cyan"))

    def error(self, error: LabError) -> None:
        """The recording, which has no standard error, ends with what went wrong."""
        for screen in self._screens:
            if screen.console.file is not self._stream:
                _print(
                    screen, ("\nerror: ", "bold red"), ("\n  ".join(map(printable, error.message.splitlines())), "red")
                )
                _print(screen, ("hint: ", "bold"), (one_line(error.hint), ""))

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
        return time.monotonic() - began

    def _text(self, *pieces: tuple[str, str]) -> None:
        for screen in self._screens:
            _print(screen, *pieces)

    def _wrapped(self, text: str) -> None:
        from rich.text import Text  # noqa: PLC0415 - see console()

        for screen in self._screens:
            screen.console.print(Text(f"\n{text}"))


def _print(screen: _Screen, *pieces: tuple[str, str]) -> None:
    from rich.text import Text  # noqa: PLC0415 - see console()

    text: Text = Text.assemble(*pieces)
    screen.console.print(text, soft_wrap=True)


def _coloured(line: str) -> str:
    """The line with its colours, and without any other escape sequence or control character."""
    return "".join(piece if _COLOUR.fullmatch(piece) else printable(piece) for piece in _COLOUR.split(line))


def _recorder(stream: TextIO) -> Console:
    """The terminal that a recording shows, whatever terminal there is."""
    from rich.console import Console  # noqa: PLC0415 - see console()

    return Console(
        file=stream,
        color_system=None if os.environ.get("NO_COLOR") else "256",
        force_terminal=True,
        width=RECORDED_WIDTH,
        height=RECORDED_HEIGHT,
        markup=False,
        highlight=False,
        emoji=False,
    )
