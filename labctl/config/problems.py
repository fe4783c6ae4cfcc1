"""Problems with a configuration: one per line, all in one error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labctl.config.scalars import is_plain_text
from labctl.model.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LONGEST_SHOWN = 80
_TEXTS = {
    "extra_forbidden": "is not a known key",
    "invalid_key": "is not a known key",
    "missing": "is missing",
    "int_type": "must be a whole number",
    "string_type": "must be text, in quotes if it looks like a number, true, false or null",
    "string_unicode": "must be UTF-8 text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must not be longer than {max_length} characters",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}
"""Replacements, by type, for messages of pydantic that only programmers understand."""


class Problem(NamedTuple):
    """A key, its value as shown to the user (or an empty text), and what is wrong with it."""

    key: str
    value: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


def invalid_error(path: Path | None, problems: Sequence[Problem]) -> UsageError:
    """Return the error `config-invalid` with the problems of the file, or of the options if there is no file."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return UsageError(
        f"{path or 'configuration'}: {count}{lines}",
        id="config-invalid",
        hint="Correct the configuration. `labctl init` writes one that explains every key.",
    )


def explanation(detail: ErrorDetails) -> str:
    """Return what is wrong with a value, in plain words."""
    if detail["type"] in _TEXTS:
        return _TEXTS[detail["type"]].format_map(detail.get("ctx", {}))
    return detail["msg"].replace("Input should", "must")


def display_value(value: object) -> str:
    """Return the value as in `labctl.yaml`, on one short line without control characters.

    Text that would otherwise be read as another type is quoted.
    """
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, str) and value.isprintable() and value.strip():
        text = value if is_plain_text(value) else f'"{value}"'
    else:
        text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
