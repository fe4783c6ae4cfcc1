"""Golden files: what differs fails, what is updated is written, and what no test produces any more is found."""

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


def keep(values: dict[str, golden_files.Value]) -> None:
    updated = wording(update=True)
    for key, value in values.items():
        updated.hold(key, value)
    updated.finish(complete=True)


def test_what_was_updated_is_held(folder: Path) -> None:
    keep({"one": SHOWN, "two": [{"seen": "x", "fix": ""}]})
    held = wording()

    held.hold("one", SHOWN)
    held.hold("two", [{"seen": "x", "fix": ""}])
    held.finish(complete=True)
    assert (folder / "wording/unit/test_golden_files.yaml").read_text().startswith("one: |\n  two lines\n")


@pytest.mark.parametrize(("key", "value"), [("one", "another text"), ("two", SHOWN)])
def test_what_differs_or_was_never_reviewed_fails(key: str, value: str) -> None:
    keep({"one": SHOWN})

    with pytest.raises((AssertionError, pytest.fail.Exception), match="--update-golden"):
        wording().hold(key, value)


def test_what_no_test_produces_is_found_and_goes_with_an_update_unless_only_a_part_ran() -> None:
    keep({"one": SHOWN, "two": "x"})
    with pytest.raises(AssertionError, match="two"):
        held_one().finish(complete=True)
    held_one().finish(complete=False)
    held_one(update=True).finish(complete=False)
    assert wording().kept.keys() == {"one", "two"}

    held_one(update=True).finish(complete=True)
    assert wording().kept.keys() == {"one"}


def test_what_differs_in_each_run_has_a_placeholder() -> None:
    keep({"test_x": "a file of $TMP", "test_x lines": ["$TMP/x"]})
    golden = Golden("test_x", wording(), {"/a/folder-7": "$TMP"})

    golden("a file of /a/folder-7")
    golden(["/a/folder-7/x"], "lines")


def test_a_folder_has_its_files_and_no_other(folder: Path) -> None:
    Golden("test_x", wording(update=True), {}).files("case", {"a/b": "x"})
    golden = Golden("test_x", wording(), {})

    golden.files("case", {"a/b": "x"})
    (folder / "case/c").touch()
    with pytest.raises(AssertionError, match="other files"):
        golden.files("case", {"a/b": "x"})


def held_one(*, update: bool = False) -> Wording:
    held = wording(update=update)
    held.hold("one", SHOWN)
    return held
