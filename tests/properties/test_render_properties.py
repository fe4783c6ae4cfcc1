from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labctl.render.templates import _yaml
from labctl.render.yaml_stream import documents


@given(st.integers())
def test_a_number_stays_a_number_in_yaml(value: int) -> None:
    assert documents(f"value: {_yaml(value)}") == [{"value": value}]
