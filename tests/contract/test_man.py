"""The manual pages in `man` and in the build."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labctl import cli
from labctl.cli.man import pages
from labctl.cli.tree import tree
from labctl.host.process import check

BUILD_REQUIRES = {"platformdirs", "typer", "annotated_doc", "shellingham"}
"""The build requirements in pyproject.toml, and their dependencies."""
LOADED = """\
import sys
before = set(sys.modules)
import labctl.cli.man
found = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(found))
"""


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("name", ["labctl", "labctl-up", "labctl-app-add"])
def test_man_shows_a_page_without_warnings(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "man1"
    folder.mkdir()
    for file, page in pages(tree(cli.app)).items():
        (folder / file).write_text(page)

    shown = subprocess.run(  # standard error must be empty
        ["man", "--warnings", "--manpath", tmp_path, name],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )

    assert shown.stderr == ""
    assert "EXAMPLES" in shown.stdout
    assert "--help" in shown.stdout


def test_the_build_requirements_suffice_for_the_pages() -> None:
    loaded = set(check([sys.executable, "-c", LOADED]).split())

    assert loaded - BUILD_REQUIRES - {"labctl"} == set()
