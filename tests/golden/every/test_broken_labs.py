"""The table of broken labs has every cause that `trace` names, or says why not, and nothing that contradicts itself."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.broken import BrokenLab, table
from e2e.broken.trial import HOPS, NAMED_SECONDS

from labctl import trace
from labctl.trace import CAUSES, MISSING_NAME

AT_LEAST = 40
TRACE = Path(trace.__file__).parent
AT_A_HOP = {cause for cause, row in CAUSES.items() if row.hop != "status"}
MADE = {row.cause for row in table.ROWS}
UP_SECONDS = 15.0
"""What the steps of `up` take before the one that waits for a cause to go."""


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    names = {row.name for row in table.ROWS}
    assert names >= table.SWEPT
    assert len(names - table.SWEPT) >= AT_LEAST
    assert [name for name, times in Counter(row.name for row in table.ROWS).items() if times > 1] == []


def test_every_cause_at_a_hop_is_made_or_it_is_said_why_not() -> None:
    assert sorted(AT_A_HOP - MADE - table.NOT_MADE.keys()) == []
    assert sorted(MADE & table.NOT_MADE.keys()) == []
    assert sorted((MADE | table.NOT_MADE.keys()) - AT_A_HOP) == []


def test_a_cause_that_no_row_makes_is_shown_by_a_unit_test() -> None:
    folder = Path(__file__).parents[2] / "unit" / "trace"
    tests = "".join(file.read_text(encoding="utf-8") for file in folder.glob("test_*.py"))

    assert [cause for cause in table.NOT_MADE if f'"{cause}"' not in tests] == []


def test_a_row_is_undone_only_for_causes_that_were_reviewed() -> None:
    assert sorted({row.cause for row in table.ROWS if row.mended_by == "undo"} - table.WITHOUT_COMMANDS.keys()) == []
    assert sorted(table.WITHOUT_COMMANDS.keys() - AT_A_HOP) == []


def test_a_hop_prints_no_command_only_for_causes_that_were_reviewed() -> None:
    without = {cause for file in TRACE.rglob("*.py") for cause in _without_commands(ast.parse(file.read_bytes()))}

    assert sorted(without - table.WITHOUT_COMMANDS.keys()) == []


@pytest.mark.parametrize("reviewed", [table.NOT_MADE, table.WITHOUT_COMMANDS], ids=["not made", "without commands"])
def test_every_exception_has_a_reason(reviewed: dict[str, str]) -> None:
    assert all(reason.strip() for reason in reviewed.values())


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.name)
def test_a_row_agrees_with_its_cause(row: BrokenLab) -> None:
    own = CAUSES[row.cause].hop
    broken = row.state == "broken"

    assert row.hop in HOPS
    assert own == "any" or row.hop in own.split(", ")
    assert broken or row.up != "names"
    assert not broken or row.up != "fine" or row.cause in MISSING_NAME
    assert row.others.keys() <= set(HOPS) - {row.hop}
    assert row.up != "names" or row.up_id or CAUSES[row.cause].patience <= NAMED_SECONDS - UP_SECONDS


def _without_commands(tree: ast.AST) -> Iterator[str]:
    """The causes, where they are written out, of problems with an empty tuple of commands."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and any(
            word.arg == "commands" and isinstance(word.value, ast.Tuple) and not word.value.elts
            for word in call.keywords
        ):
            yield from (str(each.value) for each in call.args[:1] if isinstance(each, ast.Constant))
