"""Recognise known failures of tools in their output, and explain them in the user's terms.

The table is `known_failures.toml`. Every pattern is searched in the output of every tool, since tools pass on the
output of others: Vagrant that of docker, mmdebstrap that of apt-get.
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
    """A row of the table. In message and hint, braces enclose the pattern's named groups, and `node`."""

    tool: str
    id: str
    pattern: re.Pattern[str]
    message: str
    hint: str

    @property
    def is_node_failure(self) -> bool:
        """Return whether the row is about what a node printed."""
        return "{node}" in self.message + self.hint


def recognise(error: E, output: str, *, node: str | None = None) -> E:
    """Return the known failure that a tool's output shows, as an error of the same class; else the error itself.

    Of several, return the last in the output: earlier ones did not stop the tool, or caused the last. `node` is the
    name of the node that printed the output.
    """
    rows = (failure for failure in table() if node or not failure.is_node_failure)
    matches = [(match, failure) for failure in rows for match in failure.pattern.finditer(output)]
    if not matches:
        return error
    match, failure = max(matches, key=lambda pair: pair[0].start())
    values = {**match.groupdict(), "node": node}
    return type(error)(
        failure.message.format_map(values), id=failure.id, hint=failure.hint.format_map(values), details=error.details
    )


@cache
def table() -> tuple[Failure, ...]:
    """Return every known failure."""
    import tomllib  # noqa: PLC0415 - needed only after a failure

    tools = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(
        Failure(tool, row["id"], re.compile(row["pattern"]), row["message"], row["hint"])
        for tool, rows in tools.items()
        for row in rows
    )
