"""A recording has a command's whole terminal output, and its exit code."""

from __future__ import annotations

import os

from terminal import COLUMNS, ROWS, record, shown


def test_a_command_runs_on_its_own_terminal() -> None:
    recording = record("test -t 0 && test -t 2 && stty size; exit 3", {**os.environ, "NO_COLOR": "1", "COLUMNS": "7"})

    assert (shown(recording.events), recording.code) == ([f"{ROWS} {COLUMNS}"], 3)


def test_characters_that_arrive_in_parts_are_complete() -> None:
    recording = record(r"printf '\342\234'; sleep 0.2; printf '\223 done\n'", os.environ)

    assert shown(recording.events) == ["✓ done"]
    assert [seconds for seconds, _ in recording.events] == sorted(seconds for seconds, _ in recording.events)
