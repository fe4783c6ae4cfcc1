"""The lab that a command line names, and its name in the commands of hints."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.cli.argv import lab_name, move_global_options_first, without_value
from labctl.commands import endings
from labctl.model.errors import MissingError, UsageError
from labctl.model.hints import with_lab_name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("up", None),
        ("--name two up", "two"),
        ("up --name=two", "two"),
        ("-o json status --name two", "two"),
        ("--name one --name two list", "two"),
        ("exec -- curl --name two", None),
        ("--name", ""),
    ],
)
def test_the_lab_name_is_read_from_a_command_line(line: str, name: str | None) -> None:
    assert lab_name(move_global_options_first(line.split())) == name


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("up --name", "--name"),
        ("--name two list -o", "-o"),
        ("list --config= -o json", "--config"),
        ("-v list --name two", None),
        ("exec -- curl -o", None),
    ],
)
def test_a_global_option_without_a_value_is_found(line: str, option: str | None) -> None:
    assert without_value(move_global_options_first(line.split())) == option


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        ("Run `labctl up` to fix it.", "Run `labctl --name two up` to fix it."),
        (
            "`labctl exec -- kubectl get pods`, then `labctl up`.",
            "`labctl --name two exec -- kubectl get pods`, then `labctl --name two up`.",
        ),
        ("`labctl --name one destroy` first.", "`labctl --name one destroy` first."),
        ("labctl needs no sudo: `unset SUDO_UID`.", "labctl needs no sudo: `unset SUDO_UID`."),
    ],
)
def test_commands_in_a_hint_get_the_name_of_the_lab(hint: str, named: str, tmp_path: Path) -> None:
    assert with_lab_name(hint, "two") == named
    assert with_lab_name(hint, None) == hint
    assert with_lab_name("`labctl up`", r"a\q b") == r"`labctl --name 'a\q b' up`"

    error = endings.as_error(MissingError("gone", id="gone", hint=hint), tmp_path / "log", lab="two")

    assert error.hint == named
    invalid = UsageError("--name: /", id="config-invalid", hint=hint)
    assert endings.as_error(invalid, tmp_path / "log", lab="/").hint == hint
