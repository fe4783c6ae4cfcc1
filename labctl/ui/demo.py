"""Show a demo while it is played: on a terminal, as plain lines, and in a recording."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from labctl.model.demo_reports import DemoReport, ExpectationReport, LoadReport
from labctl.model.errors import LabError
from labctl.model.options import Output
from labctl.model.traffic import ASCII_BARS, BARS, chart, load_text
from labctl.ui.answers import show_error
from labctl.ui.recording import COLOUR, HEIGHT, TERMINAL, WIDTH, Cast
from labctl.ui.screen import UNICODE, Symbols, console, one_line, printable, symbols

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDEST = 180
"""The longest line of a recording; longer ones are broken between words."""
READING_SPEED, SKIMMING_SPEED = 20, 60
"""Characters per second that a viewer reads: of prose, and of program output."""
LONGEST_PAUSE = 15.0
SHORTEST = 0.1
"""Shorter times are not shown."""


def demo_result(report: DemoReport, stdout: TextIO) -> None:
    """Print how the demo ended, in one line."""
    state = "ok" if report["ok"] else "failed"
    count = len(report["scenes"])
    print(
        f"demo {report['demo']}: {state}, {count} scene{'s' * (count != 1)} in {report['seconds']:.1f} s", file=stdout
    )


@dataclass(frozen=True, slots=True)
class _Screen:
    console: Console
    signs: Symbols
    is_recorded: bool = False

    @property
    def bars(self) -> str:
        return BARS if self.signs is UNICODE else ASCII_BARS

    def print(self, text: Text) -> None:
        """Print the text; break its lines only in a recording, where no terminal would be wide enough."""
        self.console.print(text, soft_wrap=not self.is_recorded)


class Stage:
    """Shows a demo on a stream, in a recording, on both or nowhere."""

    def __init__(
        self,
        stream: TextIO | None,
        recording: Cast | None,
        stdin: TextIO | None,
        stderr: TextIO | None = None,
    ) -> None:
        screens = [] if stream is None else [_Screen(console(stream), symbols(stream))]
        self._stdin = stdin
        self._stderr = stderr
        self._stream = stream
        self._recording = recording
        self._unread = ""
        """Output of commands that the viewer of the recording has not had time to read."""
        recorded = [] if recording is None else [_Screen(_recorder(recording), UNICODE, is_recorded=True)]
        self._screens = [*screens, *recorded]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that make programs print colours to a pipe, if this stage shows colours."""
        if not any(screen.console.color_system and not screen.console.no_color for screen in self._screens):
            return {}
        terminal = os.environ.get("TERM", "dumb")
        return {"FORCE_COLOR": "1", "TERM": TERMINAL if terminal in {"dumb", "unknown"} else terminal}

    @contextmanager
    def hidden(self, *, hide: bool) -> Iterator[None]:
        """Omit what the block shows, and its time, from the recording if `hide` is set."""
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

    def heading(self, title: str, text: str | None = None) -> None:
        """Show a heading, and the text below it in paragraphs."""
        self._pause()
        self._text(("\n", ""), (one_line(title), "bold cyan"))
        for paragraph in (text or "").split("\n\n"):
            if paragraph.strip():
                self._wrapped(one_line(paragraph))
        self._pause(f"{title} {text or ''}")

    def command(self, line: str, text: str | None) -> None:
        """Show a command line, and its standard input if it has one."""
        self._pause()
        self._text(("\n$ ", "bold green"), (printable(line), "bold"))
        for each in (text or "").splitlines():
            self._text(("  ", ""), (printable(each), "dim"))
        self._pause(line)
        self._unread += text or ""

    def output(self, line: str) -> None:
        """Show a line of a command's output with its colours, and without any other escape sequence."""
        from rich.text import Text  # noqa: PLC0415 - see console()

        for screen in self._screens:
            screen.print(Text.from_ansi(_keep_colours(line)))
        self._unread += f" {line}"

    def expectation(self, report: ExpectationReport) -> None:
        """Show what was expected and what was measured."""
        self._pause()
        for screen in self._screens:
            sign, style = (screen.signs.changed, "green") if report["ok"] else (screen.signs.failed, "bold red")
            took = f" ({report['seconds']:.1f} s)" if report["seconds"] >= SHORTEST else ""
            measured = f": {one_line(report['measured'])}{took}"
            _print(screen, (f"{sign} ", style), (one_line(report["text"]), ""), (measured, "dim"))
        self._unread = f"{report['text']} {report['measured']}"

    def load(self, load: LoadReport) -> None:
        """Show the figures of a scene's traffic."""
        self._pause()
        for screen in self._screens:
            _print(screen, (load_text(load), "bold"))
            for line in chart(load, screen.bars):
                _print(screen, ("  ", ""), (line, "cyan"))
        self._pause(load_text(load))

    def end(self, error: LabError | None) -> None:
        """Show the error on stderr if there is one, and at the end of the recording; leave time to read it."""
        self._pause()
        if error is None:
            return
        for screen in self._screens:
            if screen.is_recorded:
                message = "\n  ".join(map(printable, error.message.splitlines()))
                _print(screen, ("\nerror: ", "bold red"), (message, "red"))
                if error.hint:
                    _print(screen, ("hint: ", "bold"), (one_line(error.hint), ""))
        self._pause(f"{error.message} {error.hint}")
        if self._stderr is not None:
            show_error(error, self._stderr)

    def recorded(self, paths: Sequence[str]) -> None:
        """Print which files were written."""
        if self._stream is not None:
            print(f"\nrecorded: {', '.join(paths)}", file=self._stream, flush=True)

    def wait_for_enter(self) -> None:
        """Wait for the user to press Enter, if there is a terminal; omit the wait from the recording."""
        if self._stdin is None or self._stream is None:
            return
        began = time.monotonic()
        print("\nPress Enter to continue, Ctrl-C to end ", end="", file=self._stream, flush=True)
        self._stdin.readline()
        if self._recording is not None:
            self._recording.skip(time.monotonic() - began)

    def _pause(self, prose: str | None = None) -> None:
        """Leave time to read the prose, or the unread output of commands if there is none."""
        seconds = (
            _count_letters(self._unread) / SKIMMING_SPEED
            if prose is None
            else max(1.0, _count_letters(prose) / READING_SPEED)
        )
        self._unread = ""
        if self._recording is not None and seconds:
            self._recording.pause(min(seconds, LONGEST_PAUSE))

    def _text(self, *pieces: tuple[str, str]) -> None:
        for screen in self._screens:
            _print(screen, *pieces)

    def _wrapped(self, text: str) -> None:
        from rich.text import Text  # noqa: PLC0415 - see console()

        for screen in self._screens:
            width = WIDTH if screen.is_recorded else None
            screen.console.print(Text(f"\n{text}"), width=width)


def stage(output: Output, verbosity: int, recording: Cast | None) -> Stage:
    """Return the stage of this process.

    With `-o json`, it is stderr, and the error is only in the report. With `-q`, only errors are shown.
    """
    is_text = output == "text"
    stream = None if verbosity < 0 else sys.stdout if is_text else sys.stderr
    asks = is_text and sys.stdin.isatty() and sys.stdout.isatty()
    return Stage(stream, recording, sys.stdin if asks else None, sys.stderr if is_text else None)


def _print(screen: _Screen, *pieces: tuple[str, str]) -> None:
    from rich.text import Text  # noqa: PLC0415 - see console()

    text: Text = Text.assemble(*pieces)
    screen.print(text)


def _count_letters(text: str) -> int:
    return len(" ".join(COLOUR.sub("", text).split()))


def _keep_colours(line: str) -> str:
    """Return the line with its colours, and without any other escape sequence or control character."""
    return "".join(piece if COLOUR.fullmatch(piece) else printable(piece) for piece in COLOUR.split(line))


def _recorder(stream: TextIO) -> Console:
    """Return the console of a recording, which does not depend on the real terminal."""
    from rich.console import Console  # noqa: PLC0415 - see console()

    return Console(
        file=stream,
        color_system=None if os.environ.get("NO_COLOR") else "256",
        force_terminal=True,
        width=WIDEST,
        height=HEIGHT,
        markup=False,
        highlight=False,
        emoji=False,
    )
