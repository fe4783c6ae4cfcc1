"""What is wrong with a configuration: one line a problem, all of them in one error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from labctl.config.scalars import is_text
from labctl.model.errors import UsageError

LONGEST_SHOWN = 80


class Problem(NamedTuple):
    """A key, its value as the user shall see it (empty: nothing to show), and what it must be or is."""

    key: str
    value: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


def invalid(path: Path | None, problems: Sequence[Problem]) -> UsageError:
    """The error `config-invalid` that lists the problems of the file, or of the options where there is none."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return UsageError(
        f"{path or 'configuration'}: {count}{lines}",
        id="config-invalid",
        hint="Correct the configuration and try again; `labctl init` writes one that explains every key.",
    )


def shown(value: object) -> str:
    """Return the value as `labctl.yaml` has it: on one line of limited length, with nothing a terminal would act upon.

    Text that would be something else without its quotes has them.
    """
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, str) and value.isprintable() and value.strip():
        text = value if is_text(value) else f'"{value}"'
    else:
        text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
