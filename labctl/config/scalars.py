"""What an unquoted value of a `labctl.yaml` is: a number, true or false, nothing, or text.

YAML 1.1 reads 010 as 8, 1_000 as 1000, 12:30 as 750 and `no` as false. Here a value is a number only where it is
written as that number is written; everything else stays the text that stands there.
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
"""Each with its tag, how it is written, and the letters that it begins with."""


class WrittenFloat(float):
    """A number with a point, which is shown as it was written: 1.30 is not 1.3 where a version is meant."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number that the text says."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


def is_text(written: str) -> bool:
    """Return whether this, without quotes, is text."""
    return not any(form.match(written) for _, form, _ in FORMS)
