"""The help of every command, and the examples in it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from labctl import cli
from labctl.cli.tree import EXAMPLES, commands, tree

Run = Callable[..., int]
pytestmark = pytest.mark.usefixtures("home")
COMMANDS = dict(commands(tree(cli.app)))
REDIRECTIONS = (">", "|")


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process and returns its exit code."""
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return run


@pytest.mark.parametrize("words", COMMANDS)
def test_help_fits_a_terminal_of_80_columns_and_explains_every_parameter(
    words: str, labctl: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl(*words.split(), "--help") == 0
    out = capsys.readouterr().out

    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out
    assert not any(line.endswith("...") for line in out.splitlines()[2:]), "a summary is cut"
    assert all(example in out for example in EXAMPLES[words])
    unexplained = [parameter.name for parameter in COMMANDS[words].params if not getattr(parameter, "help", None)]
    assert unexplained == []


@pytest.mark.parametrize("words", COMMANDS)
def test_h_is_help(words: str, labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl(*words.split(), "--help") == 0
    expected = capsys.readouterr().out

    assert labctl(*words.split(), "-h") == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_is_a_command_line_that_labctl_takes(line: str) -> None:
    words = shlex.split(line.removeprefix("source <(").removesuffix(")"))
    words = words[words.index("labctl") + 1 :]
    ends = [index for index, word in enumerate(words) if word in REDIRECTIONS]
    root: Any = COMMANDS[""]

    context = root.make_context("labctl", words[: ends[0]] if ends else words)
    rest = [*context._protected_args, *context.args]
    while rest:
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args] if hasattr(command, "commands") else []

    assert not hasattr(context.command, "commands"), f"{line} names no command"
