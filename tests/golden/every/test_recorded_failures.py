"""Every row of the table of known failures, compared with recorded output of the tools."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from golden_files import Golden

from labctl.host.known_failures import Failure, recognise, table
from labctl.model.errors import ProviderError

RECORDED = Path(__file__).parents[2] / "unit" / "host" / "recorded"
HARMLESS = sorted((RECORDED / "harmless").glob("*.txt"))
UNKNOWN = ProviderError("`tool` ended with exit code 1", id="tool-failed", hint="Look.")


def _samples() -> list[Any]:
    """Return each row of the table with each of its samples as a parameter: TOOL-ID.txt, and TOOL-ID.NAME.txt."""
    return [
        pytest.param(failure, path, id=path.stem)
        for failure in table()
        for path in (
            RECORDED / f"{failure.tool}-{failure.id}.txt",
            *sorted(RECORDED.glob(f"{failure.tool}-{failure.id}.*.txt")),
        )
    ]


@pytest.mark.parametrize(("failure", "sample"), _samples())
def test_a_failure_matches_only_its_own_row_and_has_a_message_and_hint_of_one_line(
    failure: Failure, sample: Path, golden: Golden
) -> None:
    output = sample.read_text()
    error = recognise(UNKNOWN, output, node="demo-worker-1")

    assert [row.id for row in table() if row.pattern.search(output)] == [failure.id]
    assert error.id == failure.id
    assert "\n" not in error.message + error.hint
    named = {name for text in (failure.message, failure.hint) for _, name, _, _ in Formatter().parse(text) if name}
    assert named - {"node"} == set(failure.pattern.groupindex)
    assert not re.search(r"None|NAME|NODE", error.message + error.hint)
    assert error.hint.endswith((".", "/"))
    golden({"message": error.message, "hint": error.hint})


def test_every_sample_has_a_row_and_every_id_is_unique() -> None:
    rows = {f"{failure.tool}-{failure.id}" for failure in table()}
    assert {path.name.partition(".")[0] for path in RECORDED.glob("*.txt")} == rows
    assert len({failure.id for failure in table()}) == len(table())


@pytest.mark.parametrize("sample", HARMLESS, ids=lambda sample: sample.stem)
def test_warnings_of_a_tool_that_continues_are_no_failure(sample: Path) -> None:
    assert recognise(UNKNOWN, sample.read_text()) is UNKNOWN
