"""Every command, on machines where something is missing, full, closed or odd: one message and an exit code, always.

The other faults, and odd words, are in the contract tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_faults import COMMANDS, complaints

CORE = {
    "nothing_at_all": "text",
    "configuration_in_a_folder_that_is_missing": "json",
    "configuration_is_a_fifo": "text",
    "configuration_is_no_text": "json",
    "state_is_somebody_elses": "text",
    "state_is_a_file": "json",
    "record_is_damaged": "text",
    "record_is_a_fifo": "json",
    "disk_is_full": "text",
    "disk_fills_up_while_a_file_is_written": "json",
    "current_folder_is_gone": "text",
    "home_is_not_set": "json",
    "every_stream_is_closed": "text",
    "output_is_full": "json",
    "output_has_no_reader": "text",
    "streams_are_ascii": "text",
}


def test_the_commands_are_those_of_the_tree() -> None:
    assert {"up", "status", "app add", "hosts show", "demo run", "bundle build"} <= COMMANDS.keys()


@pytest.mark.parametrize("fault", CORE)
def test_no_command_ends_in_a_traceback_whatever_is_wrong_with_the_machine(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complaints(fault, CORE[fault], tmp_path, monkeypatch) == {}
