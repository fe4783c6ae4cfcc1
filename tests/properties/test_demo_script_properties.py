"""The placeholders in files of demos."""

from __future__ import annotations

from string import Template

from hypothesis import given
from hypothesis import strategies as st

from labctl.demo import names


@given(st.text())
def test_a_text_that_passes_the_check_can_be_filled_in(text: str) -> None:
    try:
        names.require_known_names(text)
    except ValueError:
        template = Template(text)
        assert not template.is_valid() or set(template.get_identifiers()) - set(names.SAMPLES)
    else:
        names.fill(text, names.SAMPLES)
