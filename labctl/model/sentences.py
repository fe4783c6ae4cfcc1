"""Parts of the sentences that messages are made of."""

from __future__ import annotations

from collections.abc import Iterable


def clause(subjects: Iterable[object], singular: str, plural: str) -> str:
    """Return the subjects with the form of the verb that agrees with them: `a has`; `a, b and c have`."""
    *others, last = map(str, subjects)
    return f"{', '.join(others)} and {last} {plural}" if others else f"{last} {singular}"
