"""The docs' pictures of a terminal: its output, its screen at each time, and the animated SVG."""

from __future__ import annotations

import re
from html import unescape

import animation
import pytest
import refresh
import terminal
from animation import picture

SIZE = {"columns": 60, "rows": 20}


def _words(svg: str) -> set[str]:
    """Return every text of a picture, whenever it is visible."""
    return {unescape(text) for text in re.findall(r"<text [^>]*>([^<]*)</text>", svg)}


def _last_words(svg: str) -> set[str]:
    """Return every text that a viewer without animations shows."""
    return _words("".join(re.findall(r'<g class="a\d+">(.*?)</g>', svg)))


def _visible(svg: str, word: str) -> tuple[str, ...]:
    """Return the keyframes of the group that shows a word."""
    (name,) = [name for name, body in re.findall(r'<g class="a(\d+)[^>]*>(.*?)</g>', svg) if f">{word}<" in body]
    (frames,) = re.findall(rf"@keyframes k{name} {{ (.*) }}", svg)
    return tuple(re.findall(r"[^{}]+{ visibility: \w+; }", frames))


def _size(svg: str) -> str:
    """Return the width and height of a picture."""
    return svg.partition('viewBox="')[2].partition('"')[0]


# What a terminal shows


@pytest.mark.parametrize(
    ("sent", "lines"),
    [
        ("", []),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("one\r\n\r\ntwo\r\n\r\n", ["one", "", "two"]),
        ("\x1b[?25lworking\r\x1b[2Kdone\r\n\x1b[?25h", ["done"]),
        ("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[2Kthree\r\n", ["three"]),
    ],
)
def test_erased_text_is_not_shown(sent: str, lines: list[str]) -> None:
    assert terminal.shown([(0.0, sent)]) == lines


def test_dim_text_is_grey_and_numbered_colours_are_kept() -> None:
    screen = terminal.Screen(**SIZE)
    screen.feed("\x1b[2mdim\x1b[0m \x1b[1;2mboth\x1b[0m \x1b[38;5;2mgreen\x1b[0m")

    row = screen.buffer[0]
    assert (row[0].fg, row[4].fg, row[4].bold) == ("brightblack", "brightblack", True)
    assert row[9].fg == "00cd00"


def test_the_users_own_folders_are_not_shown() -> None:
    environment = {"HOME": "/home/ann/", "XDG_STATE_HOME": "/home/ann/.s", "XDG_CACHE_HOME": "/big/ann"}
    sent = "/home/ann/.s/labctl/demo and /big/ann/labctl and /home/ann/x, /home/anna, /srv/home/ann and /etc/hosts"

    assert (
        terminal.with_usual_folders(sent, environment)
        == "~/.local/state/labctl/demo and ~/.cache/labctl and ~/x, /home/anna, /srv/home/ann and /etc/hosts"
    )
    assert terminal.with_usual_folders(sent, {"HOME": ""}) == sent


# The picture


def test_a_line_is_visible_while_it_was_on_the_screen() -> None:
    svg = picture([(0.0, "first"), (1.0, "\r\x1b[2Ksecond"), (2.0, "\r\n\x1b[32mthird\x1b[0m")], "t", **SIZE)
    total = 2.0 + animation.HOLD_SECONDS

    assert f"{total:.1f}s step-end infinite" in svg
    assert _visible(svg, "first") == ("0.000% { visibility: visible; }", " 10.000%, 100% { visibility: hidden; }")
    assert _visible(svg, "second") == ("0% { visibility: hidden; }", " 10.000% { visibility: visible; }")
    assert _last_words(svg) == {"second", "third"}
    assert f'fill="{animation.COLOURS["green"]}"' in svg


def test_a_viewer_without_animations_sees_the_last_screen() -> None:
    svg = picture([(0.0, "first"), (1.0, "\r\x1b[2Ksecond")], "t", **SIZE)
    before_animations, after = svg.split("@media (prefers-reduced-motion: no-preference) {")

    assert ".h { visibility: hidden; }" in before_animations
    assert re.search(r'<g class="a\d+ h">[^\n]*>first<', after)
    assert "script" not in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_a_picture_is_as_wide_as_its_last_screen() -> None:
    passing = picture([(0.0, "a line that is long"), (1.0, "\r\x1b[2Kshort")], "t", **SIZE)

    assert _size(passing) == _size(picture([(0.0, "short")], "t", **SIZE))


def test_pauses_are_shortened_and_the_speed_is_applied() -> None:
    svg = picture([(0.0, "first"), (1.0, "\r\x1b[2Ksecond"), (101.0, "\r\x1b[2Kthird")], "t", **SIZE, speed=2.0)

    assert f"{0.5 + animation.IDLE_SECONDS + animation.HOLD_SECONDS:.1f}s step-end" in svg


def test_changes_in_quick_succession_share_a_frame() -> None:
    events = [(number / 100, f"\r\x1b[2Kframe {number}") for number in range(60)]
    svg = picture(events, "t", **SIZE)

    assert 2 <= len(_words(svg) - {"t"}) <= 4
    assert _last_words(svg) == {"frame 59"}
    assert picture(events, "t", **SIZE) == svg


def test_printed_markup_is_escaped() -> None:
    assert "&lt;/svg&gt; &amp;" in picture([(0.0, "</svg> &")], "a < b", **SIZE)


# The tutorial


def test_commands_are_the_lines_after_a_prompt() -> None:
    assert refresh.commands("$ labctl up\n✓ boot\n  │  $ labctl up\n$ labctl trace\n") == ["labctl up", "labctl trace"]


def test_the_tutorial_runs_what_the_picture_shows() -> None:
    page = refresh.PAGE.read_text(encoding="utf-8")
    commands = [command for block in refresh.BLOCK.findall(page) for command in refresh.commands(block)]

    assert {*refresh.IN_PICTURE} <= {*commands}
    assert commands[-1].startswith("labctl destroy")


def test_a_session_types_each_command_before_it_runs() -> None:
    recordings = [terminal.Recording("ab", ((0.5, "one\r\n"),), 0), terminal.Recording("c", ((0.0, "two\r\n"),), 0)]
    events = refresh.session(recordings)

    assert terminal.shown(events) == ["$ ab", "one", "$ c", "two"]
    assert [seconds for seconds, _ in events] == sorted(seconds for seconds, _ in events)
