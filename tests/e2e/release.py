"""The wheel of a release, which `.ci/package` builds in a copy of the checkout and which has the failure detector."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

from .reallab import execute, run

CHECKOUT = Path(__file__).parents[2]
TOOLS = ("build", "twine")
"""Tools that only `.ci/package` needs."""
NOT_COPIED = {CHECKOUT / name for name in (".git", ".venv", "build", "dist")}
TOOLS_SECONDS, BUILD_SECONDS = 120.0, 300.0


def build_wheel(folder: Path) -> Path:
    """Build the wheel in a folder; return its path. The build needs Go, which labctl finds or fetches."""
    checkout, tools = folder / "checkout", folder / "tools"
    shutil.copytree(CHECKOUT, checkout, ignore=_not_copied)
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    wanted = [line for line in extras["release"] if line.startswith(TOOLS)]
    run(sys.executable, "-m", "pip", "install", "--quiet", f"--target={tools}", *wanted, seconds=TOOLS_SECONDS)
    path = os.pathsep.join([str(tools / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    completed = execute(
        [".ci/package"], BUILD_SECONDS, {**os.environ, "PATH": path, "PYTHONPATH": str(tools)}, folder=checkout
    )
    assert completed.code == 0, f"{completed.out}\n{completed.err}"
    [wheel] = (checkout / "dist").glob("*.whl")
    return wheel


def _not_copied(folder: str, names: list[str]) -> list[str]:
    caches = shutil.ignore_patterns("__pycache__", ".*_cache")(folder, names)
    return [name for name in names if name in caches or Path(folder, name) in NOT_COPIED]
