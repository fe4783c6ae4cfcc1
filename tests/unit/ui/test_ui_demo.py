"""Output of a demo on a terminal, in plain text, and in a recording."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from golden_files import Golden

from labctl.model.demo_reports import ExpectationReport, LoadReport
from labctl.model.errors import BrokenError, UsageError
from labctl.ui import Cast, Stage

GREEN = "\x1b[32m"
MET: ExpectationReport = {"text": "it answers 200", "ok": True, "measured": "HTTP 200", "seconds": 0.25}
UNMET: ExpectationReport = {"text": "it | answers", "ok": False, "measured": "HTTP 503", "seconds": 30.0}
LOAD: LoadReport = {
    "hostname": "my-app.local",
    "seconds": 4.5,
    "answers": 35,
    "failures": 2,
    "gap": 1.2,
    "per_second": [10, 0, 10, 10, 5],
    "first_command": 1.1,
}
ERROR = BrokenError("demo tour, scene 1: it broke\nand more", id="demo-failed", hint="Look at it.")


class FakeCast(Cast):
    """A recording that keeps its pauses, and the time that it skipped."""

    def __init__(self) -> None:
        io.StringIO.__init__(self)
        self.pauses: list[float] = []
        self.skipped = 0.0

    def write(self, text: str) -> int:
        return io.StringIO.write(self, text)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def skip(self, seconds: float) -> None:
        self.skipped += seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "LANG": "C.UTF-8", "COLUMNS": "40", "SHELL": "/bin/sh"}.items():
        monkeypatch.setenv(name, value)


# The stage


def test_without_a_terminal_a_demo_is_shown_as_plain_text(golden: Golden) -> None:
    golden(shown(io.StringIO()))


def test_bars_are_ascii_if_symbols_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = shown(io.StringIO())
    monkeypatch.setenv("LANG", "C")

    assert shown(io.StringIO()) == rich.replace("✓", "+").replace("✗", "x").replace("█", "@")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_demo_has_colours_on_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, no_color: str, *, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)

    output = shown(Terminal())

    assert ("\x1b[" in output) is coloured
    assert (f"{GREEN}STATUS" in output) is coloured


def test_prose_is_wrapped_and_output_of_commands_is_not() -> None:
    stream = io.StringIO()
    stage = Stage(stream, None, None)
    stage.heading("Long", "word " * 20)
    stage.output("word " * 20)

    lines = stream.getvalue().splitlines()
    assert max(map(len, lines[:-1])) <= 40
    assert lines[-1] == "word " * 20


def test_escape_sequences_in_output_of_commands_are_removed_except_colours() -> None:
    terminal = Terminal()
    stage = Stage(terminal, None, None)

    stage.output("\x1b[2J\x1b[32mgreen\x1b[0m\x07 \x1b]0;title\x07plain\rback [bold]")

    output = terminal.getvalue()
    assert "green" in output
    assert "plainback [bold]" in output
    assert not [each for each in ("\x1b[2J", "\x07", "\r", "\x1b]") if each in output]


def test_programs_are_told_to_use_colours_only_if_the_output_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Stage(io.StringIO(), None, None).environment == {}
    assert Stage(Terminal(), None, None).environment == {"FORCE_COLOR": "1", "TERM": "xterm"}
    monkeypatch.setenv("TERM", "dumb")
    assert Stage(Terminal(), None, None).environment == {}
    assert Stage(io.StringIO(), FakeCast(), None).environment == {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    monkeypatch.setenv("NO_COLOR", "1")
    assert Stage(Terminal(), FakeCast(), None).environment == {}


def test_the_prompt_for_enter_is_shown_on_the_terminal_and_not_recorded() -> None:
    terminal, recorded, stdin = Terminal(), FakeCast(), io.StringIO("\nmore")

    Stage(terminal, recorded, stdin).wait_for_enter()

    assert terminal.getvalue() == "\nPress Enter to continue, Ctrl-C to end "
    assert recorded.getvalue() == ""
    assert stdin.read() == "more"


@pytest.mark.parametrize(("stream", "stdin"), [(Terminal(), None), (None, io.StringIO("\n"))])
def test_enter_is_not_waited_for_without_a_terminal_or_stdin(
    stream: Terminal | None, stdin: io.StringIO | None
) -> None:
    Stage(stream, None, stdin).wait_for_enter()

    assert stream is None or stream.getvalue() == ""


def test_a_stage_can_have_no_output() -> None:
    stage = Stage(None, None, None)

    play(stage)

    assert stage.environment == {}


# The recording


def test_a_recording_is_an_asciicast_with_colours(tmp_path: Path) -> None:
    clock = iter([100.0, *(100.5 + number / 4 for number in range(100))])
    cast = Cast(tmp_path / "a.cast", "The tour", lambda: next(clock), lambda: 1700000000.9)
    stdout = io.StringIO()
    stage = Stage(stdout, cast, None)
    play(stage)
    stage.end(ERROR)
    files = cast.save("report")

    header, *events = map(json.loads, (tmp_path / "a.cast").read_text(encoding="utf-8").splitlines())
    assert header == {
        "version": 2,
        "width": 100,
        "height": 30,
        "timestamp": 1700000000,
        "idle_time_limit": 2,
        "title": "The tour",
        "command": "labctl demo run",
        "env": {"TERM": "xterm-256color", "SHELL": "/bin/sh"},
    }
    assert events[0][0] == 0.5
    assert [kind for _, kind, _ in events] == ["o"] * len(events)
    text = "".join(output for _, _, output in events)
    assert f"{GREEN}STATUS" in text
    assert text.replace("\x1b[0m", "").endswith("Look at it.\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert stdout.getvalue() == shown(io.StringIO())
    assert files == [str(tmp_path / "a.cast"), str(tmp_path / "a.md")]
    assert (tmp_path / "a.md").read_text() == "report"


def test_a_recording_skips_the_time_that_the_user_took(tmp_path: Path) -> None:
    clock = iter([0.0, 1.0, 101.5])
    cast = Cast(tmp_path / "a.cast", "", lambda: next(clock))
    cast.write("one")
    cast.skip(100)
    cast.write("two")
    cast.save("")

    assert [json.loads(line)[0] for line in (tmp_path / "a.cast").read_text().splitlines()[1:]] == [1.0, 1.5]


def test_a_recording_pauses_to_read_prose_and_output() -> None:
    recording = FakeCast()
    stage = Stage(None, recording, None)
    stage.heading("Title", "word " * 40)
    stage.command("kubectl get nodes", None)
    stage.output("word " * 24)
    stage.expectation({"text": "is", "ok": True, "measured": "so", "seconds": 0})
    stage.end(None)

    assert recording.pauses == [pytest.approx(205 / 20), 1.0, pytest.approx(119 / 60), pytest.approx(5 / 60)]


def test_pauses_of_a_recording_are_limited() -> None:
    recording = FakeCast()
    Stage(None, recording, None).heading("Title", "word " * 400)

    assert recording.pauses == [15.0]


def test_a_long_pause_is_recorded_as_several_short_ones(tmp_path: Path) -> None:
    cast = Cast(tmp_path / "a.cast", "", lambda: 10.0)
    cast.write("one")
    cast.pause(5)
    cast.write("two")
    cast.save("")

    events = [json.loads(line) for line in (tmp_path / "a.cast").read_text().splitlines()[1:]]
    assert (events[0][0], events[-1][0], events[-1][2]) == (0.0, 5.0, "two")
    assert max(later[0] - earlier[0] for earlier, later in pairwise(events)) <= 2


def test_hidden_scenes_are_shown_on_the_terminal_and_not_recorded() -> None:
    stream, recording = io.StringIO(), FakeCast()
    stage = Stage(stream, recording, None)
    with stage.hidden(hide=True), stage.hidden(hide=True):
        play(stage)
    with stage.hidden(hide=False):
        stage.output("seen")

    assert stream.getvalue() == shown(io.StringIO()) + "seen\n"
    assert recording.getvalue() == "seen\n"
    assert recording.skipped > 0


@pytest.mark.parametrize(
    ("lines", "width", "widest"),
    [(["short"], 100, 5), (["x" * 130], 130, 130), (["x " * 200], 180, 180), (["word " * 30 + "last"], 154, 154)],
)
def test_a_recording_is_as_wide_as_its_output_and_wraps_only_very_long_lines(
    lines: list[str], width: int, widest: int, tmp_path: Path
) -> None:
    cast = Cast(tmp_path / "a.cast", "")
    stage = Stage(None, cast, None)
    for line in lines:
        stage.output(f"{GREEN}{line}\x1b[0m")
    cast.save("")

    header, *events = map(json.loads, (tmp_path / "a.cast").read_text(encoding="utf-8").splitlines())
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "".join(text for *_, text in events))
    assert header["width"] == width
    assert max(len(line.rstrip()) for line in shown.split("\r\n")) <= widest


def test_prose_in_a_recording_is_wrapped_between_words() -> None:
    recording = FakeCast()
    Stage(None, recording, None).heading("Title", "word " * 60)

    *_, first, second, third = (line.rstrip() for line in recording.getvalue().splitlines())
    assert [len(line) for line in (first, second, third)] == [99, 99, 99]


@pytest.mark.parametrize("name", ["x", "x.md", "missing/x.cast", "folder.cast", "taken.cast"])
def test_an_unwritable_recording_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.cast").mkdir()
    (tmp_path / "taken.md").mkdir()

    with pytest.raises(UsageError) as caught:
        Cast(tmp_path / name, "")

    assert caught.value.id == "record-not-written"


def test_a_recording_replaces_an_older_one(tmp_path: Path) -> None:
    for text in ("older and longer", "new"):
        cast = Cast(tmp_path / "a.cast", "")
        cast.write(text)
        cast.save(_report(text))

    assert len((tmp_path / "a.cast").read_text().splitlines()) == 2
    assert (tmp_path / "a.md").read_text() == _report("new")


@pytest.mark.parametrize("content", ["# My project\n", "{", "[1]", '{"version": 2}', '{"command": "bash"}', "\ud800"])
@pytest.mark.parametrize("name", ["README.md", "README.cast"])
def test_a_recording_never_replaces_any_other_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode(errors="surrogatepass"))

    with pytest.raises(UsageError) as caught:
        Cast(tmp_path / "README.cast", "")

    assert (caught.value.exit_code, caught.value.id) == (2, "record-not-written")
    assert str(tmp_path / name) in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == content.encode(errors="surrogatepass")


def test_leftovers_of_an_interrupted_recording_are_replaced(tmp_path: Path) -> None:
    Cast(tmp_path / "a.cast", "")

    Cast(tmp_path / "a.cast", "").save(_report(""))

    assert (tmp_path / "a.md").read_text() == _report("")


def _report(text: str) -> str:
    return f"# {text}\n\n- versions: labctl 1.0\n"


def play(stage: Stage) -> None:
    stage.heading("1/2 The site", "It is there,\nand so are we.\n\nA second paragraph.\n")
    stage.command("kubectl get nodes", "kind: Pod\n")
    stage.output(f"NAME   {GREEN}STATUS\x1b[0m")
    stage.expectation(MET)
    stage.expectation(UNMET)
    stage.load(LOAD)
    stage.heading("Cleaning up")


def shown(stream: io.StringIO) -> str:
    stage = Stage(stream, None, None)
    play(stage)
    stage.end(ERROR)
    return stream.getvalue()
