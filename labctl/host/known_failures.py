"""Known failures: what a tool that failed is recognised by, and what that means to the user.

The table is `failures.toml`. A pattern is looked for in whatever failed, since tools pass on what other tools said:
Vagrant what docker said, mmdebstrap what apt-get said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from labctl.model.errors import LabError

TABLE = Path(__file__).with_suffix(".toml")

E = TypeVar("E", bound=LabError)


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of the table. The message has the pattern's named groups in braces."""

    tool: str
    id: str
    pattern: re.Pattern[str]
    message: str
    hint: str


def recognised(error: E, output: str) -> E:
    """The error; or, where the output of the tool tells of a known failure, one of its kind that says what to do.

    Of several, the one told of last counts: what comes before was survived, or led to it.
    """
    found = [(match, failure) for failure in table() for match in failure.pattern.finditer(output)]
    if not found:
        return error
    match, failure = max(found, key=lambda pair: pair[0].start())
    return type(error)(
        failure.message.format_map(match.groupdict()), id=failure.id, hint=failure.hint, details=error.details
    )


@cache
def table() -> tuple[Failure, ...]:
    """Every known failure."""
    import tomllib  # noqa: PLC0415 - only what fails needs it

    tools = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(
        Failure(tool, row["id"], re.compile(row["pattern"]), row["message"], row["hint"])
        for tool, rows in tools.items()
        for row in rows
    )
