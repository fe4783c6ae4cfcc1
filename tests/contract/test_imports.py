"""Imports of commands: quick commands must not load slow packages that only other commands need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"kubernetes", "cryptography", "requests", "vagrant"}
"""Each takes more than 0.1 s to import."""


@pytest.mark.parametrize(
    ("arguments", "others"),
    [
        (["--help"], ("pydantic", "rich", "yaml")),
        (["up", "--help"], ()),
        (["up", "--dry-run"], ("urllib3",)),
        (["status"], ("urllib3",)),
        (["list"], ("urllib3",)),
        (["halt"], ("urllib3",)),
        (["image", "list"], ("urllib3",)),
        (["hosts", "show"], ()),
        (["init"], ()),
    ],
    ids=" ".join,
)
def test_slow_packages_are_imported_only_where_needed(
    home: Path, arguments: list[str], others: tuple[str, ...]
) -> None:
    line = "import sys; from labctl.cli import main; sys.argv = ['labctl', *sys.argv[1:]]\n"
    line += "try: main()\nfinally: print('loaded', *sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", line, *arguments], cwd=home, capture_output=True, text=True, check=False
    ).stdout

    loaded = set(output.splitlines()[-1].split())
    assert "labctl.cli" in loaded
    assert not {*SLOW, *others} & loaded
