"""Write an initial labctl.yaml."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from fakes import lab

from labctl import config
from labctl.config.init import write_example
from labctl.model.errors import UsageError

pytestmark = pytest.mark.usefixtures("home")


def test_an_example_describes_the_default_lab_and_never_overwrites_a_file(tmp_path: Path) -> None:
    path = tmp_path / "labctl.yaml"

    result = write_example(path)

    assert result["file"] == str(path)
    assert f"$schema={Path(result['schema']).as_uri()}\n" in path.read_text()
    assert json.loads(Path(result["schema"]).read_text()) == config.schema()
    assert config.load(path, config.Overrides()) == lab()
    with pytest.raises(UsageError, match=r"labctl\.yaml") as raised:
        write_example(path)
    assert raised.value.id == "config-exists"


def test_a_failed_write_of_the_example_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"missing/x\.yaml") as raised:
        write_example(tmp_path / "missing" / "x.yaml")
    assert raised.value.id == "config-unwritable"

    monkeypatch.setattr(config, "example", lambda: "x" * 100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_example(tmp_path / "first.yaml")  # the schema exists from here on
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(UsageError, match="File too large"):
            write_example(tmp_path / "labctl.yaml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "labctl.yaml").exists()
