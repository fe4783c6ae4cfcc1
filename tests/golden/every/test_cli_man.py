"""The manual pages match the command tree."""

from __future__ import annotations

import re

import pytest

from labctl import cli
from labctl.cli.man import EXIT_CODES, pages
from labctl.cli.tree import EXAMPLES, commands, tree
from labctl.model.errors import ExitCode

ROOT = tree(cli.app)
PAGES = pages(ROOT)
COMMANDS = dict(commands(ROOT))


def _plain(roff: str) -> str:
    """Return the text of a page without roff markup."""
    return re.sub(r"\\f[BIR]|\\&", "", roff).replace("\\-", "-").replace("\\e", "\\")


def test_every_command_has_a_page() -> None:
    assert set(PAGES) == {"-".join(("labctl", *words.split())) + ".1" for words in COMMANDS}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_page_has_every_parameter_command_and_example(words: str) -> None:
    page = _plain(PAGES["-".join(("labctl", *words.split())) + ".1"])
    command = COMMANDS[words]
    names = [
        name
        for parameter in command.params
        for name in (parameter.opts if parameter.param_type_name == "option" else [str(parameter.metavar)])
    ]

    assert [name for name in (*names, "-h", "--help") if name not in page] == []
    assert [line for line in EXAMPLES[words] if line not in page] == []
    assert [name for name in getattr(command, "commands", ()) if f"\n{name}\n" not in page] == []
    assert " ".join((command.help or "").partition("\n\n")[0].split()) in page


@pytest.mark.parametrize("name", PAGES)
def test_no_text_line_is_read_as_a_roff_request(name: str) -> None:
    requests = {line.split()[0] for line in PAGES[name].splitlines() if line.startswith((".", "'"))}

    assert requests <= {".TH", ".SH", ".PP", ".TP", ".EX", ".EE"}


def test_the_main_page_has_every_exit_code() -> None:
    assert set(EXIT_CODES) == set(ExitCode)
    assert all(f"\n{int(code)}\n" in _plain(PAGES["labctl.1"]) for code in ExitCode)
