"""Reviewed output in files below tests/golden, which `pytest --update-golden [PATH]` rewrites.

Tests assert ids, states and values. Wording and whole files are compared with these files, so a sentence can be
improved without editing tests: update, and review the diff.
"""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest
import yaml

TESTS = Path(__file__).parent
FOLDER = TESTS / "golden"
UPDATE = "run `pytest --update-golden` with the path of the test, and review the diff"

Value = str | dict[str, "Value"] | list["Value"] | int | float | bool | None


class Wording:
    """The reviewed values of one test module, by test and name, in tests/golden/wording/<module>.yaml."""

    def __init__(self, module: Path, *, update: bool) -> None:
        self.path = FOLDER / "wording" / module.relative_to(TESTS).with_suffix(".yaml")
        self.update = update
        self.kept: dict[str, Value] = {}
        self.produced: dict[str, Value] = {}
        if self.path.exists():
            self.kept = yaml.load(self.path.read_bytes(), Loader=yaml.CSafeLoader)

    def hold(self, key: str, value: Value) -> None:
        assert key not in self.produced, f"{key} is compared twice: give each value a name"
        self.produced[key] = value
        if not self.update:
            assert key in self.kept, f"{self.path} has no {key!r}: {UPDATE}"
            _same(value, self.kept[key], f"{self.path}, {key}")

    def finish(self, *, complete: bool) -> None:
        """Write the produced values if updating, otherwise fail on stale entries; a partial run keeps the others."""
        stale = self.kept.keys() - self.produced.keys() if complete else set()
        if not self.update:
            assert not stale, f"{self.path} has stale entries: {sorted(stale)}; {UPDATE}"
            return
        values = {key: value for key, value in (self.kept | self.produced).items() if key not in stale}
        if values != self.kept:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(_yaml(values), encoding="utf-8")
        if not values:
            self.path.unlink(missing_ok=True)


class Golden:
    """Comparison of a test's values with golden files."""

    def __init__(self, test: str, wording: Wording, hidden: dict[str, str]) -> None:
        self._test = test
        self._wording = wording
        self._hidden = hidden

    def __call__(self, value: Value, name: str = "") -> None:
        """Compare a value with the reviewed one. Each value of a test after the first needs a name."""
        self._wording.hold(f"{self._test} {name}".strip(), self._shown(value))

    def files(self, case: str, rendered: dict[str, str]) -> None:
        """Compare files with a golden folder: the same names, and the same contents."""
        folder = FOLDER / case
        if self._wording.update:
            shutil.rmtree(folder, ignore_errors=True)
            for path, text in rendered.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == rendered.keys(), (
            f"{folder} has other files: {UPDATE}"
        )
        for path, text in rendered.items():
            _same(text, (folder / path).read_text(encoding="utf-8"), str(folder / path))

    def _shown(self, value: Value) -> Value:
        """Return the value with placeholders for texts that differ in each run."""
        match value:
            case str():
                for text, placeholder in self._hidden.items():
                    value = value.replace(text, placeholder)
                return value
            case dict():
                return {key: self._shown(each) for key, each in value.items()}
            case list():
                return [self._shown(each) for each in value]
        return value


def is_complete(session: pytest.Session) -> bool:
    """Return whether all tests of a module ran: the command line left none out, and none failed."""
    option = session.config.option
    is_part = option.keyword or option.markexpr or getattr(option, "lf", False) or option.maxfail
    return not (is_part or session.testsfailed or any("::" in argument for argument in session.config.args))


def _same(value: Value, kept: Value, place: str) -> None:
    if value != kept:
        before, after = (
            each.splitlines() if isinstance(each, str) else _yaml(each).splitlines() for each in (kept, value)
        )
        difference = "\n".join(difflib.unified_diff(before, after, "reviewed", "now", lineterm=""))
        pytest.fail(f"{place} differs: {UPDATE}\n{difference}", pytrace=False)


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes a text of several lines as a block."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - every value is written in full
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(values: Value) -> str:
    text: str = yaml.dump(values, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000)
    return text
