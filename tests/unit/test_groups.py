"""Groups of tests that share a process, and their order, when the tests run in two processes."""

from __future__ import annotations

import re
from pathlib import Path

import groups
import pytest

E2E = Path(groups.__file__).parent / "e2e"


@pytest.mark.parametrize("name", [*groups.OTHER_LABS, *groups.LAST])
def test_a_file_with_its_own_group_exists_and_does_not_use_the_first_lab(name: str) -> None:
    text = (E2E / name).read_text(encoding="utf-8")

    assert re.search(r"^def test_[^)]*\blab: RealLab", text, re.MULTILINE) is None or "def lab(" in text


def test_groups_start_in_this_order() -> None:
    files = ("e2e/test_9_faults.py", "e2e/test_9_kills.py", "e2e/test_b_release.py", "unit/test_groups.py")
    names = [f"tests/{file}::test" for file in (*files, *(f"e2e/{name}" for name in groups.LAST))]

    turns = [groups.turn(name) for name in names]

    assert turns == sorted(turns)
    assert turns[3] < turns[4] == turns[5]
    assert groups.group(names[0]) == groups.FIRST_LAB
    assert groups.group(names[3]) == f"tests/{files[3]}"
