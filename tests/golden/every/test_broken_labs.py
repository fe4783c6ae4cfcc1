"""The table of broken labs: it covers every cause that `trace` reports, or gives a reason, and is consistent."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.broken import BrokenLab, table
from e2e.broken.trial import HOPS, REPORTED_SECONDS

from labctl import trace
from labctl.trace import CAUSES, MISSING_NAME

AT_LEAST = 40
TRACE = Path(trace.__file__).parent
AT_A_HOP = {cause for cause, row in CAUSES.items() if row.hop != "status"}
COVERED = {row.cause for row in table.ROWS}
UP_SECONDS = 15.0
"""Duration of the steps of `up` before the one that waits until a cause is gone."""


def test_there_are_enough_rows_and_every_name_is_unique() -> None:
    names = {row.name for row in table.ROWS}
    assert names >= table.SWEPT
    assert len(names - table.SWEPT) >= AT_LEAST
    assert [name for name, times in Counter(row.name for row in table.ROWS).items() if times > 1] == []


def test_every_cause_at_a_hop_has_a_row_or_a_reason_for_having_none() -> None:
    assert sorted(AT_A_HOP - COVERED - table.NOT_COVERED.keys()) == []
    assert sorted(COVERED & table.NOT_COVERED.keys()) == []
    assert sorted((COVERED | table.NOT_COVERED.keys()) - AT_A_HOP) == []


def test_a_cause_without_a_row_has_a_unit_test() -> None:
    folder = Path(__file__).parents[2] / "unit" / "trace"
    tests = "".join(file.read_text(encoding="utf-8") for file in folder.glob("test_*.py"))

    assert [cause for cause in table.NOT_COVERED if f'"{cause}"' not in tests] == []


def test_only_reviewed_causes_have_rows_that_are_undone() -> None:
    assert sorted({row.cause for row in table.ROWS if row.fixed_by == "undo"} - table.WITHOUT_COMMANDS.keys()) == []
    assert sorted(table.WITHOUT_COMMANDS.keys() - AT_A_HOP) == []


def test_only_reviewed_causes_have_no_commands() -> None:
    without = {cause for file in TRACE.rglob("*.py") for cause in _without_commands(ast.parse(file.read_bytes()))}

    assert sorted(without - table.WITHOUT_COMMANDS.keys()) == []


@pytest.mark.parametrize("reviewed", [table.NOT_COVERED, table.WITHOUT_COMMANDS], ids=["not made", "without commands"])
def test_every_exception_has_a_reason(reviewed: dict[str, str]) -> None:
    assert all(reason.strip() for reason in reviewed.values())


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.name)
def test_a_row_agrees_with_its_cause(row: BrokenLab) -> None:
    own = CAUSES[row.cause].hop
    broken = row.state == "broken"

    assert row.hop in HOPS
    assert own == "any" or row.hop in own.split(", ")
    assert broken or row.up != "reports"
    assert not broken or row.up != "fine" or row.cause in MISSING_NAME
    assert row.others.keys() <= set(HOPS) - {row.hop}
    assert row.up != "reports" or row.up_id or CAUSES[row.cause].patience <= REPORTED_SECONDS - UP_SECONDS


def _without_commands(tree: ast.AST) -> Iterator[str]:
    """Yield the literal causes of problems with an empty tuple of commands."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and any(
            word.arg == "commands" and isinstance(word.value, ast.Tuple) and not word.value.elts
            for word in call.keywords
        ):
            yield from (str(each.value) for each in call.args[:1] if isinstance(each, ast.Constant))
