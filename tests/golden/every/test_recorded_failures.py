"""Every row of the table of known failures, compared with recorded output of the tools."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from labctl.host.known_failures import Failure, recognise, table
from labctl.model.errors import ProviderError

RECORDED = Path(__file__).parents[2] / "unit" / "host" / "recorded"
HARMLESS = sorted((RECORDED / "harmless").glob("*.txt"))
UNKNOWN = ProviderError("`tool` ended with exit code 1", id="tool-failed", hint="Look.")


@pytest.mark.parametrize("failure", table(), ids=lambda failure: failure.id)
def test_a_failure_matches_only_its_own_row_and_has_a_message_and_hint_of_one_line(failure: Failure) -> None:
    output = _sample(failure).read_text()
    error = recognise(UNKNOWN, output, node="demo-worker-1")

    assert [row.id for row in table() if row.pattern.search(output)] == [failure.id]
    assert error.id == failure.id
    assert "\n" not in error.message + error.hint
    named = {name for text in (failure.message, failure.hint) for _, name, _, _ in Formatter().parse(text) if name}
    assert named - {"node"} == set(failure.pattern.groupindex)
    assert not re.search(r"None|NAME|NODE", error.message + error.hint)
    assert error.hint.endswith((".", "/"))


def test_every_sample_has_a_row_and_every_id_is_unique() -> None:
    assert {path.name for path in RECORDED.glob("*.txt")} == {_sample(failure).name for failure in table()}
    assert len({failure.id for failure in table()}) == len(table())


@pytest.mark.parametrize("sample", HARMLESS, ids=lambda sample: sample.stem)
def test_warnings_of_a_tool_that_continues_are_no_failure(sample: Path) -> None:
    assert recognise(UNKNOWN, sample.read_text()) is UNKNOWN


def _sample(failure: Failure) -> Path:
    return RECORDED / f"{failure.tool}-{failure.id}.txt"
