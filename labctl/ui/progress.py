"""Show a run: with a live line on a terminal, in plain lines without one, or in JSON lines for scripts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TextIO

from labctl.model.events import Event, Result, Watcher, Watching
from labctl.model.options import GlobalOptions, Output
from labctl.model.reports import ResultEvent, StepEvent, error_report
from labctl.ui.answers import show_error
from labctl.ui.screen import Symbols, console, is_live, one_line, symbols

if TYPE_CHECKING:
    from rich.text import Text

REFRESHES_PER_SECOND = 10


@contextmanager
def watcher(output: Output, verbosity: int, stdout: TextIO, stderr: TextIO) -> Iterator[Watcher]:
    """Yield the watcher for these streams, and always restore the terminal afterwards.

    `verbosity` is -1 for `-q` (only the answer and errors), 1 for `-v` (every progress text keeps its line). It does
    not affect JSON lines.
    """
    if output == "json":
        yield JsonWatcher(stdout)
    elif verbosity < 0:
        yield QuietWatcher(stdout, stderr)
    elif not is_live(stderr):
        yield PlainWatcher(stdout, stderr)
    else:
        with closing(LiveWatcher(stdout, stderr, verbose=verbosity > 0)) as live:
            yield live


def watching(options: GlobalOptions) -> Watching:
    """Return a context manager that opens the watcher for these options on this process's streams."""
    return watcher(options.output, options.verbosity, sys.stdout, sys.stderr)


class JsonWatcher:
    """Writes each event to stdout at once, as one JSON object per line."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def emit(self, event: Event) -> None:
        """Write the event, with `changed` and `seconds` if it has them."""
        line: StepEvent = {"event": "step", "step": event.step, "state": event.state, "text": event.text}
        if event.changed is not None:
            line["changed"] = event.changed
        if event.seconds is not None:
            line["seconds"] = round(event.seconds, 2)
        self._write(line)

    def result(self, result: Result) -> None:
        """Write the last line."""
        self._write(
            {
                "event": "result",
                "version": 1,
                "ok": result.ok,
                "changed": result.changed,
                "seconds": round(result.seconds, 2),
                "urls": list(result.urls),
                "hosts": result.hosts.state,
                "error": error_report(result.error) if result.error else None,
            }
        )

    def _write(self, line: StepEvent | ResultEvent) -> None:
        print(json.dumps(line), file=self._stdout, flush=True)


class QuietWatcher:
    """Shows nothing but the answer or the error."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout = stdout
        self._stderr = stderr

    def emit(self, event: Event) -> None:
        """Ignore the event."""

    def result(self, result: Result) -> None:
        """Print the URLs, or the error."""
        _show_answer(result, self._stdout, self._stderr)
        _show_pending(result, self._stderr)


class PlainWatcher:
    """Writes a plain line for each event, for logs."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout = stdout
        self._stderr = stderr

    def emit(self, event: Event) -> None:
        """Print the event."""
        print(_plain_line(event), file=self._stderr, flush=True)

    def result(self, result: Result) -> None:
        """Print the URLs and what to try next, or the error."""
        _show_answer(result, self._stdout, self._stderr)
        _show_closing(result, self._stderr)
        _show_pending(result, self._stderr)


class LiveWatcher:
    """Shows a line for each step that ended, and below them a line for the running step."""

    def __init__(
        self, stdout: TextIO, stderr: TextIO, *, verbose: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.live import Live  # noqa: PLC0415 - see console()

        self._stdout = stdout
        self._stderr = stderr
        self._verbose = verbose
        self._symbols = symbols(stderr)
        self._running = _RunningStep(self._symbols, clock)
        self._live = Live(
            self._running,
            console=console(stderr),
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def emit(self, event: Event) -> None:
        """Update the running step's line, or replace it with the step's last line."""
        self._running.follow(event)
        if event.state in {"done", "failed"}:
            line, style = _finished_line(event, self._symbols)
            # Not truncated on a narrow terminal: warnings are at the end of the line.
            self._live.console.print(line, style=style, soft_wrap=True)
        elif event.state == "progress" and self._verbose:
            self._live.console.print(f"  {_plain_line(event)}", style="dim", soft_wrap=True)

    def result(self, result: Result) -> None:
        """Remove the running line; print the URLs and what to try next, or the error."""
        self.close()
        _show_answer(result, self._stdout, self._stderr)
        _show_closing(result, self._stderr)
        _show_pending(result, self._stderr)

    def close(self) -> None:
        """Remove the running line, and show the cursor."""
        self._live.stop()


class _RunningStep:
    """The line of the running step, empty between steps; rich renders it at every refresh."""

    def __init__(self, signs: Symbols, clock: Callable[[], float]) -> None:
        self._symbols = signs
        self._clock = clock
        self._started = 0.0
        self._event: Event | None = None

    def follow(self, event: Event) -> None:
        if event.state == "started":
            self._started = self._clock()
        self._event = event if event.state in {"started", "progress"} else None

    def __rich__(self) -> Text:
        from rich.text import Text  # noqa: PLC0415 - see console()

        return Text(self._line(), no_wrap=True, overflow=self._symbols.overflow)

    def _line(self) -> str:
        if self._event is None:
            return ""
        elapsed = self._clock() - self._started
        frame = self._symbols.spinner[int(elapsed * REFRESHES_PER_SECOND) % len(self._symbols.spinner)]
        return f"{frame} {self._event.step:<12}{elapsed:>6.1f}s  {one_line(self._event.text)}".rstrip()


def _finished_line(event: Event, signs: Symbols) -> tuple[str, str]:
    """Return the last line of a step, and its style."""
    if event.state == "failed":
        symbol, style, text = signs.failed, "red", "failed"
    elif event.changed:
        symbol, style, text = signs.changed, "", one_line(event.text)
    else:
        symbol, style, text = signs.unchanged, "dim", one_line(event.text) or "unchanged"
    seconds = "" if event.seconds is None else f"{event.seconds:.1f}s"
    return f"{symbol} {event.step:<12}{seconds:>7}  {text}".rstrip(), style


def _plain_line(event: Event) -> str:
    if event.state == "progress":
        return f"{event.step}: {one_line(event.text)}"
    line = f"{event.step}: {event.state}"
    if event.seconds is not None:
        line += f" in {event.seconds:.1f} s"
    if event.changed is not None:
        line += " (changed)" if event.changed else " (unchanged)"
    # The result shows the text of a failure, as its error.
    return f"{line}: {one_line(event.text)}" if event.text and event.state != "failed" else line


def _show_answer(result: Result, stdout: TextIO, stderr: TextIO) -> None:
    if result.error:
        show_error(result.error, stderr)
        return
    for url in result.urls:
        print(url, file=stdout, flush=True)


def _show_pending(result: Result, stderr: TextIO) -> None:
    """Show the hosts lines that the user has to add or delete, and the commands for it."""
    entry = result.hosts
    if not result.ok or entry.state != "pending":
        return
    parts = [f"note: {entry.note}", *(f"  {line}" for line in entry.lines)]
    if entry.commands:
        parts += ["for example with:", *(f"  {command}" for command in entry.commands)]
    print("\n".join(parts), file=stderr)


def _show_closing(result: Result, stderr: TextIO) -> None:
    if not result.ok:
        return
    print(f"done in {result.seconds:.1f} s{'' if result.changed else ', nothing changed'}", file=stderr)
    if result.urls and result.hosts.state != "pending":
        labctl = f"labctl --name {result.lab}" if result.lab else "labctl"
        url = result.next_url if result.next_url in result.urls else result.urls[0]
        print(f"next: {labctl} status, {labctl} exec -- curl {url}", file=stderr)
