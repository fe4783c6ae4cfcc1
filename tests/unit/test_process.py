from __future__ import annotations

from pathlib import Path

import pytest

from labctl.process import LAST_LINES, _append, last_lines


def test_the_last_lines_skip_empty_ones_and_keep_their_order() -> None:
    assert last_lines("one\n\n  two  \n\t\nthree\n", 2) == ("  two", "three")


def test_the_last_lines_of_nothing_are_none() -> None:
    assert last_lines("\n \n") == ()


def test_an_error_shows_only_so_many_lines() -> None:
    output = "".join(f"{number}\n" for number in range(100))

    assert last_lines(output) == tuple(str(number) for number in range(100 - LAST_LINES, 100))


@pytest.mark.parametrize("output", ["up\n", "up"])
def test_the_log_holds_the_command_as_typed_its_output_and_its_exit_code(tmp_path: Path, output: str) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")

    _append(log, ["vagrant", "up", "two words"], 1, output)

    assert log.read_text() == "before\n$ vagrant up 'two words'\nup\n[exit 1]\n"


def test_a_silent_program_leaves_no_empty_line_in_the_log(tmp_path: Path) -> None:
    _append(tmp_path / "log", ["true"], 0, "")

    assert (tmp_path / "log").read_text() == "$ true\n[exit 0]\n"
