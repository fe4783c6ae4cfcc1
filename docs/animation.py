"""Make an animated picture of a terminal, an SVG that plays without scripts, from a recording.

Usage: python docs/animation.py RECORDING.cast PICTURE.svg

The recording is in asciinema's format (version 2), as written by `labctl demo run NAME --record`. Each line of the
screen becomes a text that is visible while the line was on the screen. A viewer that plays no animations, or a reader
who prefers none, sees the last screen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from terminal import Event, Screen

HOLD_SECONDS = 8.0
"""How long the last screen is shown before the animation restarts."""
FRAME_SECONDS = 0.2
"""Changes within this time are shown as one frame."""
IDLE_SECONDS = 2.0
"""A longer pause is cut to this."""
CHARACTER, LINE, MARGIN, TITLE_BAR, FONT = 8.4, 19, 14, 34, 14
FONTS = "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"
COLOURS = {
    "black": "#555753",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#f2cc60",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": "#e6edf3",
    "default": "#e6edf3",
    "brightblack": "#8b949e",
}
"""Colours by their names in pyte, which gives one of the 256 colours as its hexadecimal value."""

Span = tuple[int, str, str, bool]
"""A run of characters of one style: its column, its text, its colour, and whether it is bold."""
Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Appearance:
    """A line of the screen, and when it appeared and disappeared; `end` is None for a line that stays."""

    row: int
    line: Line
    start: float
    end: float | None


def picture(events: Sequence[Event], title: str, *, columns: int, rows: int, speed: float = 1.0) -> str:
    """Return these events, on a screen of this size, as SVG."""
    moments = list(_paced(events, speed))
    total = moments[-1][0] + HOLD_SECONDS
    appearances = list(_appearances(moments, columns, rows))
    # The lines that stay decide the width: a longer one that disappears is cut off.
    lasting = [each for each in appearances if each.end is None] or appearances
    width = max(each.line[-1][0] + len(each.line[-1][1]) for each in lasting)
    height = max(each.row for each in appearances) + 1
    return _svg(appearances, title, total, (width, height))


def _paced(events: Sequence[Event], speed: float) -> Iterator[Event]:
    """Yield the events in the animation's time: faster, with shorter pauses, and grouped into frames."""
    now, before = 0.0, 0.0
    frame, held = 0.0, ""
    for seconds, text in events:
        now += min((seconds - before) / speed, IDLE_SECONDS)
        before = seconds
        if held and now - frame >= FRAME_SECONDS:
            yield frame, held
            held = ""
        if not held:
            frame = now
        held += text
    yield frame, held


def _appearances(moments: Sequence[Event], columns: int, rows: int) -> Iterator[Appearance]:
    screen = Screen(columns, rows)
    standing: dict[int, tuple[float, Line]] = {}
    for now, text in moments:
        screen.feed(text)
        for row in screen.dirty:
            line = _spans(screen, row)
            start, before = standing.get(row, (now, ()))
            if line != before:
                if before:
                    yield Appearance(row, before, start, now)
                standing[row] = (now, line)
        screen.dirty.clear()
    for row, (start, line) in standing.items():
        if line:
            yield Appearance(row, line, start, None)


def _spans(screen: Screen, row: int) -> Line:
    characters = [screen.buffer[row][column] for column in range(screen.columns)]
    spans: list[Span] = []
    for (colour, bold), run in groupby(enumerate(characters), key=lambda each: (each[1].fg, each[1].bold)):
        run_of_style = list(run)
        spans.append((run_of_style[0][0], "".join(each.data for _, each in run_of_style), colour, bold))
    while spans and not spans[-1][1].rstrip():
        spans.pop()
    if spans:
        start, text, colour, bold = spans[-1]
        spans[-1] = (start, text.rstrip(), colour, bold)
    return tuple(span for span in spans if span[1].strip())


def _svg(appearances: Iterable[Appearance], title: str, total: float, size: tuple[int, int]) -> str:
    width, height = size[0] * CHARACTER + 2 * MARGIN, size[1] * LINE + TITLE_BAR + MARGIN
    groups: dict[tuple[float, float | None], list[str]] = {}
    for each in sorted(appearances, key=lambda each: (each.start, each.row)):
        groups.setdefault((each.start, each.end), []).extend(_texts(each))
    rules, bodies = [], []
    for number, ((start, end), texts) in enumerate(groups.items()):
        rules.append(_rule(number, start, end, total))
        hidden = "" if end is None else " h"
        bodies.append(f'<g class="a{number}{hidden}">{"".join(texts)}</g>')
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            "<style>",
            f"text {{ font: {FONT}px {FONTS}; white-space: pre; }}",
            ".b { font-weight: bold; } .h { visibility: hidden; }",
            "@media (prefers-reduced-motion: no-preference) {",
            *rules,
            "}",
            "</style>",
            f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#0d1117"/>',
            *(
                f'<circle cx="{MARGIN + 6 + 20 * number}" cy="17" r="6" fill="{colour}"/>'
                for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
            ),
            f'<text x="{width / 2:.0f}" y="22" fill="#8b949e" text-anchor="middle">{escape(title)}</text>',
            *bodies,
            "</svg>\n",
        )
    )


def _rule(number: int, start: float, end: float | None, total: float) -> str:
    """Return the animation that shows a group of lines from start to end."""
    frames = ["0% { visibility: hidden; }"] if start > 0 else []
    frames.append(f"{100 * start / total:.3f}% {{ visibility: visible; }}")
    if end is not None:
        frames.append(f"{100 * end / total:.3f}%, 100% {{ visibility: hidden; }}")
    return (
        f".a{number} {{ animation: k{number} {total:.1f}s step-end infinite; }} @keyframes k{number} {{ "
        f"{' '.join(frames)} }}"
    )


def _texts(appearance: Appearance) -> Iterator[str]:
    y = TITLE_BAR + appearance.row * LINE + FONT
    for column, text, colour, bold in appearance.line:
        lead = len(text) - len(text.lstrip())
        words = text.strip()
        weight = ' class="b"' if bold else ""
        yield (
            f'<text x="{MARGIN + (column + lead) * CHARACTER:.1f}" y="{y}" fill="{COLOURS.get(colour, f"#{colour}")}"'
            f' textLength="{len(words) * CHARACTER:.1f}"{weight}>{escape(words)}</text>'
        )


def main() -> None:
    """Make the picture of a recording."""
    source, target = map(Path, sys.argv[1:])
    header, *lines = map(json.loads, source.read_text(encoding="utf-8").splitlines())
    events = [(seconds, text) for seconds, kind, text in lines if kind == "o"]
    title = str(header.get("title", source.stem))
    target.write_text(picture(events, title, columns=header["width"], rows=header["height"]), encoding="utf-8")


if __name__ == "__main__":
    main()
