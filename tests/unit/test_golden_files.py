"""Golden files: a changed value fails, an update writes it, and entries that no test produces are found."""

from __future__ import annotations

from pathlib import Path

import golden_files
import pytest
from golden_files import Golden, Wording

SHOWN = "two lines\n  of a text\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(golden_files, "FOLDER", tmp_path)
    return tmp_path


def wording(*, update: bool = False) -> Wording:
    return Wording(Path(__file__), update=update)


def save_reviewed(values: dict[str, golden_files.Value]) -> None:
    updated = wording(update=True)
    for key, value in values.items():
        updated.hold(key, value)
    updated.finish(complete=True)


def test_updated_values_pass(folder: Path) -> None:
    save_reviewed({"one": SHOWN, "two": [{"seen": "x", "fix": ""}]})
    reviewed = wording()

    reviewed.hold("one", SHOWN)
    reviewed.hold("two", [{"seen": "x", "fix": ""}])
    reviewed.finish(complete=True)
    assert (folder / "wording/unit/test_golden_files.yaml").read_text().startswith("one: |\n  two lines\n")


@pytest.mark.parametrize(("key", "value"), [("one", "another text"), ("two", SHOWN)])
def test_a_changed_or_unreviewed_value_fails(key: str, value: str) -> None:
    save_reviewed({"one": SHOWN})

    with pytest.raises((AssertionError, pytest.fail.Exception), match="--update-golden"):
        wording().hold(key, value)


def test_a_stale_entry_fails_and_is_removed_by_an_update_of_all_tests() -> None:
    save_reviewed({"one": SHOWN, "two": "x"})
    with pytest.raises(AssertionError, match="two"):
        hold_one().finish(complete=True)
    hold_one().finish(complete=False)
    hold_one(update=True).finish(complete=False)
    assert wording().kept.keys() == {"one", "two"}

    hold_one(update=True).finish(complete=True)
    assert wording().kept.keys() == {"one"}


def test_values_that_differ_in_each_run_get_a_placeholder() -> None:
    save_reviewed({"test_x": "a file of $TMP", "test_x lines": ["$TMP/x"]})
    golden = Golden("test_x", wording(), {"/a/folder-7": "$TMP"})

    golden("a file of /a/folder-7")
    golden(["/a/folder-7/x"], "lines")


def test_an_unexpected_file_in_a_golden_folder_fails(folder: Path) -> None:
    Golden("test_x", wording(update=True), {}).files("case", {"a/b": "x"})
    golden = Golden("test_x", wording(), {})

    golden.files("case", {"a/b": "x"})
    (folder / "case/c").touch()
    with pytest.raises(AssertionError, match="other files"):
        golden.files("case", {"a/b": "x"})


def hold_one(*, update: bool = False) -> Wording:
    reviewed = wording(update=update)
    reviewed.hold("one", SHOWN)
    return reviewed
