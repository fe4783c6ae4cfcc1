"""README's pictures: what was sent to a terminal, as the terminal shows it at the end."""

from __future__ import annotations

import io
import re
from html import unescape

import pictures
import pytest

from labctl import ui
from labctl.events import Event

UP = ui.Result(changed=True, seconds=31.4, urls=("http://my-app.local",))


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and that its line discipline is the usual one."""

    def isatty(self) -> bool:
        return True

    @property
    def sent(self) -> str:
        return self.getvalue().replace("\n", "\r\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**pictures.TERMINAL, "COLUMNS": "60"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


def _plain(lines: list[str]) -> list[str]:
    return [pictures.COLOUR.sub("", line) for line in lines]


def _words(svg: str) -> str:
    """What a picture shows, line by line; empty lines are not in it."""
    rows: dict[str, str] = {}
    for y, text in re.findall(r'<text [^>]* y="([0-9.]+)"[^>]*>([^<]*)</text>', svg):
        rows[y] = rows.get(y, "") + unescape(text).replace("\xa0", " ")
    return "\n".join(row.rstrip() for row in rows.values() if row.strip())


# The screen


def test_of_a_run_the_steps_last_lines_and_the_answer_are_left(terminal: Terminal) -> None:
    with ui.watcher("text", 0, terminal, terminal) as watch:
        for event in (
            Event("render", "started"),
            Event("render", "done", changed=False, seconds=0.1234),
            Event("boot", "started"),
            Event("boot", "progress", "vagrant up"),
            Event("boot", "done", "2 nodes running", changed=True, seconds=11.2),
        ):
            watch(event)
        watch.result(UP)
    lines = pictures.screen(terminal.sent)

    assert _plain(lines) == [
        "· render         0.1s  unchanged",
        "✓ boot          11.2s  2 nodes running",
        "http://my-app.local",
        "done in 31.4 s",
        "next: labctl status, labctl exec -- curl http://my-app.local",
    ]
    assert lines[0].startswith("\x1b[2m")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("", []),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("one\r\n\r\ntwo\r\n\r\n", ["one", "", "two"]),
        ("\x1b[?25lworking\r\x1b[2Kdone\r\n\x1b[?25h", ["done"]),
        ("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[2Kthree\r\n", ["three"]),
        ("\x1b[31mred\x1b[0m\r\n\x1b[2m\x1b[0m\r\n", ["\x1b[31mred\x1b[0m"]),
    ],
)
def test_what_was_erased_is_not_shown(sent: str, shown: list[str]) -> None:
    assert pictures.screen(sent) == shown


@pytest.mark.parametrize("sent", ["long\rs", "\x1b[2;2Hhere", "a\x1b[3C", "\a", "\x1b", "a\tb", "\x1b]0;title\a"])
def test_a_picture_is_not_guessed(sent: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        pictures.screen(sent)


def test_the_users_own_folders_are_not_shown() -> None:
    environment = {"HOME": "/home/ann/", "XDG_STATE_HOME": "/home/ann/.s", "XDG_CACHE_HOME": "/big/ann"}
    told = "/home/ann/.s/labctl/demo and /big/ann/labctl and /home/ann/x, /home/anna, /srv/home/ann and /etc/hosts"

    assert (
        pictures.with_usual_folders(told, environment)
        == "~/.local/state/labctl/demo and ~/.cache/labctl and ~/x, /home/anna, /srv/home/ann and /etc/hosts"
    )
    assert pictures.with_usual_folders(told, {"HOME": ""}) == told


# The picture


def test_a_picture_shows_what_was_typed_and_what_came_and_is_the_same_each_time() -> None:
    lines = ["\x1b[1mNodes\x1b[0m", "", "  READY  \x1b[32myes\x1b[0m"]
    svg = pictures.picture("labctl status", lines)

    assert _words(svg) == "labctl status\n$ labctl status\nNodes\n  READY  yes"
    assert "fill: #98a84b" in svg  # the theme's green
    assert pictures.picture("labctl status", lines) == svg


def test_a_line_that_is_too_long_goes_on_in_the_next_one_as_terminals_do() -> None:
    assert _words(pictures.picture("labctl up", ["word " * 30])).splitlines()[2:] == [
        ("word " * 25).rstrip(),
        ("word " * 5).rstrip(),
    ]
