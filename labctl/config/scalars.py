"""Decide what an unquoted value of a `labctl.yaml` is: a number, a boolean, null or text.

YAML 1.1 reads 010 as 8, 1_000 as 1000, 12:30 as 750 and `no` as false. Here only the usual notation of a number is a
number. Everything else stays text.
"""

from __future__ import annotations

import re
from typing import Self

NULL, BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
FORMS = (
    (NULL, re.compile(r"(?:~|null|)\Z"), ("~", "n", "")),
    (BOOL, re.compile(r"(?:true|false)\Z"), ("t", "f")),
    (INT, re.compile(r"(?:0|-?[1-9][0-9]*)\Z"), tuple("-0123456789")),
    (FLOAT, re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+\Z"), tuple("-0123456789")),
)
"""The tag, notation and possible first characters of each type."""


class WrittenFloat(float):
    """A number with a point that is shown as it was written: as a version, 1.30 is not 1.3."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number in the text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


def is_plain_text(written: str) -> bool:
    """Return whether this is read as text without quotes."""
    return not any(form.match(written) for _, form, _ in FORMS)
