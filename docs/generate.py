"""Write the pages and the picture that are generated from the sources.

Usage: python docs/generate.py [--check]

`--check` writes nothing, and fails if a page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import dependency_graph

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from generator import (  # noqa: E402 - importable only from here on
    architecture,
    causes,
    checks,
    commands,
    configuration,
    documents,
    environment,
    errors,
    exit_codes,
    troubleshooting,
)


def pages() -> Mapping[str, str]:
    """Return the text of every generated page and picture, by its path below docs/."""
    return {
        "architecture.md": architecture.page(),
        "dependencies.svg": dependency_graph.picture(
            dependency_graph.read(FOLDER.parent), dependency_graph.packages(FOLDER.parent)
        ),
        "causes.md": causes.page(),
        "troubleshooting.md": troubleshooting.page(),
        "reference/commands.md": commands.page(),
        "reference/configuration.md": configuration.page(),
        "reference/doctor.md": checks.page(),
        "reference/environment.md": environment.page(),
        "reference/errors.md": errors.page(),
        "reference/exit-codes.md": exit_codes.page(),
        "reference/json.md": documents.page(),
    }


def outdated() -> list[str]:
    """Return the pages that differ from what the sources generate."""
    return [name for name, text in pages().items() if (FOLDER / name).read_text(encoding="utf-8") != text]


def main() -> None:
    """Write the pages, or check them."""
    if "--check" in sys.argv:
        sys.exit(
            f"Run `python {Path(__file__).relative_to(FOLDER.parent)}`: {', '.join(old)}" if (old := outdated()) else 0
        )
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
