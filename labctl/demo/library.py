"""Where demos are found, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labctl.config import document
from labctl.config.problems import Problem, shown
from labctl.demo.placeholders import MEASURED, used
from labctl.demo.script import KINDS, Demo
from labctl.host import paths
from labctl.model.errors import UsageError
from labctl.model.reports import DemoEntry

OWN = Path(__file__).resolve().parent / "demos"
SUFFIXES = (".yaml", ".yml")
_TEXTS = {
    "extra_forbidden": "is not a known key here",
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text, in quotes if it looks like a number, a date or yes/no",
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
    "too_short": "must have at least one",
    "model_type": "must be keys and values",
    "model_attributes_type": "must be keys and values",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "union_tag_not_found": f"must have one of the keys {', '.join(KINDS)}",
    "value_error": "{error}",
}


@dataclass(frozen=True, slots=True)
class Script:
    """A demo that can be played, and where it was read."""

    name: str
    path: Path
    demo: Demo


def listed() -> list[DemoEntry]:
    """Every demo that has a name of its own: the user's, and those of labctl that they do not take the place of.

    Raises UsageError `demo-invalid` as `find` does.
    """
    return [
        {
            "demo": name,
            "about": read(path).demo.about,
            "file": None if path.parent == OWN else str(path),
        }
        for name, path in sorted(_named().items())
    ]


def find(name: str) -> Script:
    """The demo of this name, or in this file if it contains a slash or ends in .yaml or .yml.

    Raises UsageError: `demo-unknown` where there is none, `demo-invalid` with every problem of it, one a line.
    """
    is_file = "/" in name or name.endswith(SUFFIXES)
    path = Path(name) if is_file else _named().get(name)
    if path is None or not path.exists():
        raise UsageError(
            f"there is no demo {name}",
            id="demo-unknown",
            hint=f"There are: {', '.join(sorted(_named())) or 'none at all'}; a file is named with a slash in it.",
        )
    return read(path)


def read(path: Path) -> Script:
    """The demo in this file. Raises UsageError `demo-invalid` with every problem, one a line."""
    values, problems = _values(path)
    try:
        demo = Demo.model_validate(values)
    except ValidationError as error:
        problems += map(_in_words, error.errors(include_url=False))
    problems += [*_gaps_without_load(values), *_figures_before_load(values)]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise _invalid(f"{path}: {count}" + "".join(f"\n  {problem}" for problem in problems))
    return Script(path.stem, path, demo)


def _named() -> dict[str, Path]:
    own = {path.stem: path for path in OWN.glob("*.yaml")}
    return own | {path.stem: path for path in (paths.configuration() / "demos").glob("*.yaml")}


def _values(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    try:
        return document.read(path)
    except UsageError as error:
        cause = error.__cause__
        unread = f"cannot read the demo {path}: {cause.strerror}" if isinstance(cause, OSError) else ""
        raise _invalid(unread or error.message) from error


def _invalid(message: str) -> UsageError:
    return UsageError(message, id="demo-invalid", hint="Correct the demo's file and try again; nothing was run.")


def _gaps_without_load(values: Mapping[str, Any]) -> Iterator[Problem]:
    for index, scene in enumerate(_items(values, "scenes")):
        if isinstance(scene, dict) and "load" not in scene:
            yield from (
                Problem(f"scenes[{index}].expect[{place}].gap", shown(each["gap"]), "needs a `load` in its scene")
                for place, each in enumerate(_items(scene, "expect"))
                if isinstance(each, dict) and "gap" in each
            )


def _figures_before_load(values: Mapping[str, Any]) -> Iterator[Problem]:
    scenes = _items(values, "scenes")
    loads = [index for index, scene in enumerate(scenes) if isinstance(scene, dict) and "load" in scene]
    early = scenes[: loads[0] + 1] if loads else scenes
    parts = [*((f"scenes[{index}]", scene) for index, scene in enumerate(early)), ("cleanup", values.get("cleanup"))]
    for place, part in parts:
        for name in sorted(used(part) & MEASURED):
            yield Problem(place, f"${name}", "needs a `load` in a scene before it")


def _items(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key)
    return found if isinstance(found, list) else []


def _in_words(detail: ErrorDetails) -> Problem:
    # In brackets is which kind of expectation it is, which is no key.
    parts = [part for part in detail["loc"] if not str(part).startswith("(")]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in parts).removeprefix(".")
    kind = detail["type"]
    text = _TEXTS[kind].format(**detail.get("ctx", {})) if kind in _TEXTS else detail["msg"]
    return Problem(path, "" if kind == "missing" else shown(detail["input"]), text)
