"""Every command with every fault of a machine, an environment or an argument ends with one message and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_faults import COMMANDS, FAULTS, ODD_WORDS, complaints, odd_lines

pytestmark = pytest.mark.slow


def test_the_commands_are_those_of_the_tree() -> None:
    assert {"up", "status", "app add", "hosts show", "demo run", "bundle build"} <= COMMANDS.keys()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_command_ends_in_a_traceback_whatever_is_wrong_with_the_machine(
    fault: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complaints(fault, form, tmp_path, monkeypatch) == {}


@pytest.mark.parametrize("word", ODD_WORDS, ids=lambda word: ascii(word)[:20])
def test_no_odd_word_in_the_place_of_any_argument_or_option_ends_in_a_traceback(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert odd_lines(word, "json", tmp_path, monkeypatch) == {}
