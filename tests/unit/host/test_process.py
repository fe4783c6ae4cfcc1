"""Errors from the output of failed programs."""

from __future__ import annotations

from pathlib import Path

from labctl.host.log import logging_to
from labctl.host.process import LAST_LINES, failure, last_lines
from labctl.model.errors import MissingError, ProviderError

FAILED = ProviderError("`tool` failed", id="tool-failed", hint="Look at it.")


def test_the_last_lines_skip_empty_ones_and_keep_their_order() -> None:
    assert last_lines("one\n\n  two  \n\t\nthree\n", 2) == ("  two", "three")


def test_empty_output_has_no_last_lines() -> None:
    assert last_lines("\n \n") == ()


def test_a_failure_shows_a_limited_number_of_lines() -> None:
    output = "".join(f"{number}\n" for number in range(100))

    assert failure(FAILED, output).details == tuple(str(number) for number in range(100 - LAST_LINES, 100))


def test_an_unknown_failure_names_the_log_with_the_whole_output(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        error = failure(FAILED, "odd\n")

    assert (error.id, error.message) == ("tool-failed", "`tool` failed")
    assert error.hint == f"Look at it. The whole output is in {tmp_path / 'log'}."


def test_without_a_log_no_log_is_named() -> None:
    assert failure(FAILED, "odd\n").hint == "Look at it."


def test_a_known_failure_keeps_the_error_class_and_has_its_own_hint(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        error = failure(MissingError("`apt-get` failed", id="tool-failed"), "E: Unable to locate package vagrant\n")

    assert isinstance(error, MissingError)
    assert error.id == "package-unknown"
    assert "apt-get update" in error.hint
    assert error.details == ("E: Unable to locate package vagrant",)
