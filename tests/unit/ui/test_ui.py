"""Output on a terminal, in a log and in JSON, tested with a small emulated terminal."""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from golden_files import Golden

from labctl import ui
from labctl.model.errors import LabError, ProviderError
from labctl.model.events import Event, HostsEntry, Result
from labctl.model.options import Output
from labctl.model.reports import RenderReport, StatusReport
from labctl.ui.progress import _RunningStep
from labctl.ui.screen import ASCII, UNICODE, one_line

ERROR = ProviderError(
    "`vagrant up` of [demo-worker-1] failed\nsee the log",
    id="tool-failed",
    hint="`labctl up` resumes",
    details=("==> first [red]", "==> \x1b[31mlast\x1b[0m"),
)
EVENTS = (
    Event("render", "started"),
    Event("render", "done", changed=False, seconds=0.1234),
    Event("boot", "started"),
    Event("boot", "progress", "vagrant up\ndemo-worker-1"),
    Event("boot", "done", "2 nodes running", changed=True, seconds=11.2),
)
FAILURE = (
    Event("boot", "started"),
    Event("boot", "progress", "vagrant up"),
    Event("boot", "failed", "no", seconds=3.0),
)
UP = Result(changed=True, seconds=31.4, urls=("http://my-app.local", "http://b.local"))
UNCHANGED = Result(changed=False, seconds=1.26)
FAILED = Result(changed=True, seconds=3.0, urls=("http://my-app.local",), error=ERROR)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal, and the screen that its output produces."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines, row = [""], 0
        for piece in re.findall(r"\x1b\[[0-?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if piece == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif piece == "\x1b[1A":
                row -= 1
            elif piece == "\x1b[2K":
                lines[row] = ""
            elif not piece.startswith(("\x1b", "\r")):
                lines[row] += piece
        return lines

    @property
    def cursor_hidden(self) -> bool:
        return self.getvalue().rfind("\x1b[?25l") > self.getvalue().rfind("\x1b[?25h")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "LANG": "C.UTF-8", "COLUMNS": "60"}.items():
        monkeypatch.setenv(name, value)


def test_json_lines_match_the_documented_contract() -> None:
    stdout, stderr = watch("json", 0, EVENTS, replace(UP, seconds=1.256, urls=("http://b.local",)))

    assert stdout.getvalue().splitlines() == [
        '{"event": "step", "step": "render", "state": "started", "text": ""}',
        '{"event": "step", "step": "render", "state": "done", "text": "", "changed": false, "seconds": 0.12}',
        '{"event": "step", "step": "boot", "state": "started", "text": ""}',
        '{"event": "step", "step": "boot", "state": "progress", "text": "vagrant up\\ndemo-worker-1"}',
        '{"event": "step", "step": "boot", "state": "done", "text": "2 nodes running", "changed": true, "seconds": 11.2}',
        '{"event": "result", "version": 1, "ok": true, "changed": true, "seconds": 1.26, "urls": ["http://b.local"], "hosts": "not needed", "error": null}',
    ]
    assert stderr.getvalue() == ""


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_ends_with_the_commands_left_to_the_user(verbosity: int, *, terminal: bool) -> None:
    pending = HostsEntry("pending", "Add to /etc/hosts", ("192.168.56.100 my-app.local",), ("echo … | sudo tee",))

    stdout, stderr = watch("text", verbosity, EVENTS, replace(UP, hosts=pending), Terminal() if terminal else None)

    assert stdout.getvalue().splitlines() == list(UP.urls)
    note, *entries, example, command = stderr.getvalue().splitlines()[-4:]
    assert note.endswith(pending.note)
    assert [line.strip() for line in entries] == list(pending.lines)
    assert example
    assert command.strip() in pending.commands


def test_the_json_result_has_the_state_of_the_hosts_file() -> None:
    for state in ("written", "pending", "not needed"):
        stdout, _ = watch("json", 0, [], replace(UP, hosts=HostsEntry(state)))
        assert json.loads(stdout.getvalue())["hosts"] == state


def test_the_json_result_of_a_failed_run_has_the_error() -> None:
    stdout, stderr = watch("json", -1, FAILURE, FAILED)

    assert json.loads(stdout.getvalue().splitlines()[-1])["error"] == {
        "id": "tool-failed",
        "message": "`vagrant up` of [demo-worker-1] failed\nsee the log",
        "hint": "`labctl up` resumes",
        "details": list(ERROR.details),
    }
    assert stderr.getvalue() == ""


def test_every_json_line_is_flushed_at_once() -> None:
    flushed: list[str] = []

    class Pipe(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    stdout = Pipe()
    with ui.watcher("json", 0, stdout, io.StringIO()) as watcher:
        watcher.emit(Event("boot", "started"))

        assert flushed[-1].endswith("}\n")


def test_a_log_gets_plain_lines(golden: Golden) -> None:
    stdout, stderr = watch("text", 0, EVENTS, UP)

    golden(stderr.getvalue())
    assert stdout.getvalue() == "http://my-app.local\nhttp://b.local\n"


def test_a_log_of_a_failed_run_ends_with_the_error_and_no_url(golden: Golden) -> None:
    stdout, stderr = watch("text", 0, FAILURE, FAILED)

    golden(stderr.getvalue())
    assert stderr.getvalue().endswith(shown_error())
    assert stdout.getvalue() == ""


def test_a_run_without_urls_only_reports_its_duration(golden: Golden) -> None:
    stdout, stderr = watch("text", 0, (), UNCHANGED)

    golden(stderr.getvalue())
    assert stdout.getvalue() == ""


def test_quiet_prints_only_the_urls() -> None:
    stdout, stderr = watch("text", -1, EVENTS, UP, stderr=Terminal())

    assert stdout.getvalue() == "http://my-app.local\nhttp://b.local\n"
    assert stderr.getvalue() == ""


def test_quiet_prints_the_error() -> None:
    _, stderr = watch("text", -1, FAILURE, FAILED)

    assert stderr.getvalue() == shown_error()


def test_a_terminal_shows_one_line_per_step(golden: Golden) -> None:
    terminal = Terminal()
    stdout, _ = watch("text", 0, EVENTS, UP, stderr=terminal)

    golden("\n".join(terminal.screen))
    assert stdout.getvalue() == "http://my-app.local\nhttp://b.local\n"
    assert not terminal.cursor_hidden


def test_a_terminal_shows_the_failed_step_and_then_the_error(golden: Golden) -> None:
    terminal = Terminal()
    watch("text", 0, FAILURE, FAILED, stderr=terminal)

    golden("\n".join(terminal.screen))
    assert not terminal.cursor_hidden


def test_verbose_keeps_every_progress_text_on_the_terminal(golden: Golden) -> None:
    terminal = Terminal()
    watch("text", 1, EVENTS, UNCHANGED, stderr=terminal)

    golden("\n".join(terminal.screen))


@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_an_aborted_run_leaves_no_partial_line_and_a_visible_cursor(reason: type[BaseException]) -> None:
    terminal = Terminal()

    with pytest.raises(reason):
        interrupted_run(reason, terminal)

    assert "".join(terminal.screen) == ""
    assert not terminal.cursor_hidden


def test_the_line_of_a_running_step_shows_the_last_text_and_the_elapsed_time() -> None:
    now = 100.0
    running = _RunningStep(UNICODE, lambda: now)
    assert running._line() == ""

    running.follow(Event("boot", "started"))
    now = 102.5
    assert running._line() == "⠴ boot           2.5s"

    running.follow(Event("boot", "progress", "vagrant up"))
    assert running._line() == "⠴ boot           2.5s  vagrant up"

    running.follow(Event("boot", "done", changed=True, seconds=2.5))
    assert running._line() == ""


@pytest.mark.parametrize(("language", "end"), [("C.UTF-8", "…"), ("C", "x")])
def test_a_long_text_is_truncated_while_the_step_runs_and_complete_at_the_end(
    monkeypatch: pytest.MonkeyPatch, language: str, end: str
) -> None:
    monkeypatch.setenv("LANG", language)
    terminal = Terminal()
    watch("text", 0, [Event("boot", "started"), Event("boot", "progress", "x" * 100)], UNCHANGED, stderr=terminal)

    longest = max(re.split(r"\x1b\[[0-?]*[A-Za-z]|\r|\n", terminal.getvalue()), key=len)
    assert (len(longest), longest[-2:]) == (60, "x" + end)

    terminal = Terminal()
    watch("text", 0, [Event("boot", "done", "x" * 100, changed=True, seconds=1.0)], UNCHANGED, stderr=terminal)

    assert terminal.screen[0].endswith(" " + "x" * 100)


def test_nothing_is_truncated_on_a_terminal_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("LINES", "0")
    terminal = Terminal()
    watch("text", 0, EVENTS, UNCHANGED, stderr=terminal)
    ui.table(["NAME"], [["demo"]], stdout := io.StringIO())

    assert terminal.screen[1].endswith("2 nodes running")
    assert stdout.getvalue() == "NAME\ndemo\n"


@pytest.mark.parametrize(
    "variables",
    [{"LANG": "C"}, {"LANG": ""}, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "POSIX"}],
    ids=str,
)
def test_a_terminal_without_utf8_gets_ascii_symbols(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    watch("text", 0, [*EVENTS, *FAILURE], UNCHANGED, stderr=terminal)

    assert [line[0] for line in terminal.screen[:3]] == ["-", "+", "x"]
    assert terminal.getvalue().isascii()


def test_ascii_symbols_are_ascii() -> None:
    assert (ASCII.changed + ASCII.unchanged + ASCII.failed + ASCII.spinner).isascii()


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    watch("text", 0, FAILURE, FAILED, stderr=terminal)

    assert terminal.getvalue() == watch("text", 0, FAILURE, FAILED)[1].getvalue()


def test_an_error_has_colours_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    coloured = shown(lambda stream: ui.show_error(ERROR, stream), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(lambda stream: ui.show_error(ERROR, stream), Terminal())

    assert coloured.startswith("\x1b[1;31merror: \x1b[0m")
    assert "\x1b" not in plain
    golden(plain)


def test_no_color_applies_to_the_lines_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    watch("text", 1, [*EVENTS, *FAILURE], FAILED, stderr=terminal)

    assert re.findall(r"\x1b\[[0-9;]*m", terminal.getvalue()) == []


def test_a_long_error_is_not_wrapped() -> None:
    error = LabError("x" * 200, id="long")

    assert shown(lambda stream: ui.show_error(error, stream)) == f"error: {'x' * 200}\n"


def test_columns_in_the_output_of_a_tool_are_kept(golden: Golden) -> None:
    error = LabError("2 problems\n- pool\n    last: 7", id="many", details=("NAME   READY", "a\tno"))

    golden(shown(lambda stream: ui.show_error(error, stream)))


def test_an_error_as_json_is_one_document() -> None:
    assert json.loads(shown(lambda stream: ui.show_error_json(ERROR, stream))) == {
        "version": 1,
        "error": {
            "id": "tool-failed",
            "message": ERROR.message,
            "hint": "`labctl up` resumes",
            "details": list(ERROR.details),
        },
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[1;31mred\x1b[0m\r\n  next\tone", "red next one"),
        ("bell\x07 and \x1b]odd", "bell and odd"),
        ("half an escape \x1b", "half an escape"),
        ("für [bold]", "für [bold]"),
    ],
)
def test_foreign_text_becomes_one_line_without_escape_sequences(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_table_has_columns_as_wide_as_their_widest_cell() -> None:
    table = shown(lambda stream: ui.table(("NAME", "NODES"), [("demo", "2"), ("class-room", "[12]")], stream))

    assert table == "NAME         NODES\ndemo         2\nclass-room   [12]\n"


def test_a_table_without_rows_has_only_its_headers() -> None:
    assert shown(lambda stream: ui.table(("NAME", "NODES"), [], stream)) == "NAME   NODES\n"


def test_a_document_is_printed_as_json_or_text() -> None:
    value = RenderReport(version=1, folder="/lab")

    assert json.loads(shown(lambda stream: ui.document(value, "json", stream, ui.values))) == value
    assert shown(lambda stream: ui.document(value, "text", stream, ui.values)) == "folder: /lab\n"


def test_status_shows_all_parts_of_the_lab(golden: Golden) -> None:
    golden(shown(lambda stream: ui.status(report(), stream)))


def test_status_of_an_empty_lab_shows_dashes() -> None:
    empty = report()
    empty["nodes"], empty["addresses"], empty["problems"] = [], [], []
    assert empty["ingress"]
    empty["ingress"]["address"], empty["ingress"]["ready"] = None, False
    empty["apps"][0]["http"] = None
    lines = shown(lambda stream: ui.status(empty, stream)).splitlines()

    assert lines[lines.index("Ingress") + 2].split()[-2:] == ["-", "no"]
    assert lines[lines.index("Apps") + 2].split() == ["my-app", "http://my-app.local", "-"]
    assert lines[-2:] == ["Problems", "  none"]


def test_status_without_the_api_shows_no_controller() -> None:
    empty = report()
    empty["ingress"] = None

    lines = shown(lambda stream: ui.status(empty, stream)).splitlines()

    assert lines[lines.index("Ingress") + 2] == "Apps"


def test_status_colours_good_and_bad_on_a_terminal() -> None:
    broken = report()
    broken["apps"][0]["http"] = 503
    text = shown(lambda stream: ui.status(broken, stream), Terminal())

    assert "192.168.56.10   \x1b[32myes\x1b[0m\n" in text
    assert "192.168.56.11   \x1b[31mno\x1b[0m\n" in text
    assert "http://my-app.local   \x1b[31m503\x1b[0m\n" in text
    assert "READY\n" in text


@pytest.mark.parametrize(
    ("answer", "expected"), [("y\n", True), (" Yes \n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_only_yes_confirms(answer: str, expected: bool) -> None:  # noqa: FBT001 - a test's parameter
    stderr = io.StringIO()

    assert ui.confirm("Destroy lab demo?", Terminal(answer), stderr) is expected
    assert stderr.getvalue() == "Destroy lab demo? [y/N] "


def test_without_a_terminal_there_is_no_prompt() -> None:
    stdin, stderr = io.StringIO("y\n"), io.StringIO()

    assert ui.confirm("Destroy lab demo?", stdin, stderr) is False
    assert (stdin.tell(), stderr.getvalue()) == (0, "")


def watch(
    output: Output, verbosity: int, events: Sequence[Event], result: Result, stderr: io.StringIO | None = None
) -> tuple[io.StringIO, io.StringIO]:
    """Return stdout and stderr of a whole run."""
    stdout, stderr = io.StringIO(), stderr or io.StringIO()
    with ui.watcher(output, verbosity, stdout, stderr) as watcher:
        for event in events:
            watcher.emit(event)
        watcher.result(result)
    return stdout, stderr


def interrupted_run(reason: type[BaseException], terminal: Terminal) -> None:
    """Abort a run before its result."""
    with ui.watcher("text", 0, io.StringIO(), terminal) as watcher:
        watcher.emit(Event("boot", "started"))
        watcher.emit(Event("boot", "progress", "vagrant up"))
        raise reason


def shown_error() -> str:
    return shown(lambda stream: ui.show_error(ERROR, stream))


def shown(show: Callable[[io.StringIO], None], stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    show(stream)
    return stream.getvalue()


def report() -> StatusReport:
    return {
        "version": 1,
        "lab": "demo",
        "ok": False,
        "nodes": [
            {"name": "demo-control-plane", "role": "control-plane", "address": "192.168.56.10", "ready": True},
            {"name": "demo-worker-1", "role": "worker", "address": "192.168.56.11", "ready": False},
        ],
        "addresses": [
            {
                "address": "192.168.56.100",
                "service": "ingress-nginx/ingress-nginx-controller",
                "pool": "demo",
                "node": "demo-worker-1",
            }
        ],
        "ingress": {
            "controller": "ingress-nginx",
            "namespace": "ingress-nginx",
            "service": "ingress-nginx-controller",
            "address": "192.168.56.100",
            "ready": True,
        },
        "apps": [{"name": "my-app", "url": "http://my-app.local", "http": 200}],
        "problems": [
            {
                "id": "node-not-ready",
                "state": "broken",
                "text": "node demo-worker-1 is not Ready: [kubelet] is silent",
                "fix": "Run `labctl up` to fix it.",
                "commands": ["labctl --name demo up"],
            }
        ],
    }
