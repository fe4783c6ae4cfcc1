from __future__ import annotations

import pytest

from labctl.model.sentences import clause


@pytest.mark.parametrize(
    ("subjects", "text"), [(["a"], "a has"), (("a", "b"), "a and b have"), ({"a": 1, "b": 2, 3: 3}, "a, b and 3 have")]
)
def test_a_verb_agrees_with_its_subjects(subjects: list[str], text: str) -> None:
    assert clause(subjects, "has", "have") == text
