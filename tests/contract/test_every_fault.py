"""Every command with every fault of a machine, an environment or an argument ends with one message and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_faults import COMMANDS, FAULTS, ODD_WORDS, violations, violations_with_word

pytestmark = pytest.mark.slow


def test_the_tested_commands_include_those_of_groups() -> None:
    assert {"up", "status", "app add", "hosts show", "demo run", "bundle build"} <= COMMANDS.keys()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_command_violates_the_contract_on_a_faulty_machine(
    fault: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert violations(fault, form, tmp_path, monkeypatch) == {}


@pytest.mark.parametrize("word", ODD_WORDS, ids=lambda word: ascii(word)[:20])
def test_no_command_violates_the_contract_with_an_odd_argument(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert violations_with_word(word, "json", tmp_path, monkeypatch) == {}
