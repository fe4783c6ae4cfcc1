"""The commands of a demo: argument lists, never a shell, in the network of this process."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.demo.placeholders import Values, filled
from labctl.demo.script import Command
from labctl.host import process
from labctl.host.process import Finished


@dataclass(frozen=True, slots=True)
class Line:
    """A command of a demo with everything filled in."""

    arguments: tuple[str, ...]
    shown: str
    """As the user would type it."""
    input: str | None
    code: int
    """The exit code that it must have."""
    folder: Path
    """Where it runs."""


Start = Callable[[Line, Mapping[str, str], Callable[[str], None]], Finished]
"""Runs a command to its end, with this added to the environment, and tells each line that it says."""


def line(command: Command, values: Values, folder: Path) -> Line:
    """The command as it is run for this lab, in a folder. A value is never split into words, whatever it holds."""
    program, *words = (filled(word, values) for word in shlex.split(command.command))
    arguments = [program, *words]
    if program == "labctl":
        arguments = [sys.executable, "-P", "-m", "labctl", "--name", values["lab"], *words]
    text = None if command.input is None else filled(command.input, values)
    return Line(tuple(arguments), filled(command.command, values), text, command.code, folder)


def start(command: Line, environment: Mapping[str, str], on_line: Callable[[str], None]) -> Finished:
    """The command has ended, and every line of it was told as it came; one that reads something, when it had ended.

    Raises ProviderError `tool-not-started`.
    """
    arguments: Sequence[str] = command.arguments
    environment = {**os.environ, **environment}  # as if the user typed it
    if command.input is None:
        return process.stream(arguments, on_line, env=environment, cwd=command.folder)
    finished = process.run(arguments, env=environment, cwd=command.folder, stdin=command.input.encode())
    for each in finished.out.splitlines() if finished.code == 0 else finished.last_lines:
        on_line(each)
    return finished
