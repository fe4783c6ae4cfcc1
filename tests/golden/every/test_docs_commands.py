"""Every labctl command in README and docs is valid: its commands and options exist and accept the given values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer._click.exceptions import MissingParameter, NoArgsIsHelpError, UsageError

from labctl.cli import app
from labctl.cli.tree import tree

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md")))
SHELL = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]*\blabctl [^`\n]+)`")
LABCTL = re.compile(r"(?:^|&& |<\(|\"\$\(command -v |\' )labctl\b(?:\)\")?([^#&|>)]*)")
SCRIPTS = re.compile(r"`(?:python |pytest )((?:bench|docs|tests)/[\w/]+\.py)`")


def _commands(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the words after each labctl, and whether they are only a mention, which may lack an argument."""
    lines = [(line, False) for block in SHELL.findall(text) for line in block.splitlines()]
    for line, is_mention in [*lines, *((line, True) for line in INLINE.findall(text))]:
        yield from ((words.strip(), is_mention) for words in LABCTL.findall(line.removeprefix("$ ")))


def _parse(command: Any, words: list[str], parent: Any = None) -> None:  # noqa: ANN401 - click's, which typer has inside
    """Raise UsageError, as labctl does, if the words are no valid command line. Run nothing."""
    context = command.make_context(
        command.name or "labctl", [word for word in words if word != "--help"], parent=parent
    )
    rest = [*getattr(context, "_protected_args", ()), *context.args]
    if hasattr(command, "resolve_command") and (rest or "--help" not in words):
        _, subcommand, rest = command.resolve_command(context, rest)
        _parse(subcommand, rest, context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_docs_are_valid(page: Path) -> None:
    root = tree(app)
    wrong = []
    for line, is_mention in dict.fromkeys(_commands(page.read_text(encoding="utf-8"))):
        try:
            _parse(root, shlex.split(line))
        except UsageError as error:
            if not (is_mention and isinstance(error, MissingParameter | NoArgsIsHelpError)):
                wrong.append(f"labctl {line}: {error.format_message()}")
    assert wrong == []


@pytest.mark.parametrize(
    "line", ["frobnicate", "up --frobnicate", "app add", "up --workers many", "demo play failover"]
)
def test_an_invalid_command_is_rejected(line: str) -> None:
    with pytest.raises(UsageError):
        _parse(tree(app), shlex.split(line))


def test_scripts_named_in_the_docs_exist() -> None:
    named = {name for page in PAGES for name in SCRIPTS.findall(page.read_text(encoding="utf-8"))}

    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
