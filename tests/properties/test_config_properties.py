from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labctl import config
from labctl.config import Overrides
from labctl.model.errors import UsageError

keys = st.sampled_from([*config.schema()["properties"], "nam"])
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.sampled_from(["a", "\x1b[0m", "1-2"])
)
values = scalars | st.lists(scalars | st.dictionaries(st.sampled_from(["name", "port", "x"]), scalars), max_size=2)
syntax = st.text(alphabet="a1:-[]{}&*!|>'\"#%@ \n\t\x00", max_size=12)


@given(document=st.dictionaries(keys, values, max_size=3).map(yaml.safe_dump) | syntax)
@example(document='"\\t": a tab for a key')
@settings(max_examples=40)
def test_any_document_is_a_lab_or_one_usage_error(tmp_path_factory: pytest.TempPathFactory, document: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(document, encoding="utf-8")

    assert all(line.isprintable() for line in _outcome(path).splitlines())


def _outcome(path: Path) -> str:
    try:
        return config.load(path, Overrides()).name
    except UsageError as error:
        return error.message
