"""The scripts of the workflows that `.ci/run` does not run itself: on this machine, with its package index."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]
NOT_SERVED = ("No matching distribution found", "No solution found", "Failed to fetch")
"""What pip and uv say where a package index lacks a version that is pinned, or is another one than uv asks."""


@pytest.fixture
def disk() -> Iterator[Path]:
    """Yield a folder with room for a bundle; pytest's own may be in memory, and stays."""
    with tempfile.TemporaryDirectory(prefix="labctl-e2e-", dir="/var/tmp") as folder:
        yield Path(folder)


def test_a_bare_debian_is_prepared() -> None:
    assert _run(".ci/debian").returncode == 0


def test_the_pinned_packages_are_installed_and_up_to_date(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    installed = _run(".ci/install", str(environment))
    _skip_if_not_served(installed)
    assert installed.returncode == 0, installed.stderr

    path = f"{environment}/bin:{os.environ['PATH']}"
    assert _run(".ci/lock", "--check", PATH=path).returncode == 0
    fast = _run(".ci/fast", "tests/unit/test_papers.py", PATH=path)
    assert fast.returncode == 0, fast.stdout


def test_a_bundle_is_packed_with_its_checksum(bundle: Path, disk: Path) -> None:
    packed = _run(".ci/bundle", str(disk), PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    assert packed.returncode == 0, packed.stderr
    archive = disk / f"{bundle.name}.tar"
    with archive.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    assert archive.with_name(f"{archive.name}.sha256").read_text() == f"{checksum}  {archive.name}\n"
    with tarfile.open(archive) as content:
        names = {member.name for member in content if member.isfile()}
    assert names == {str(path.relative_to(bundle.parent)) for path in bundle.rglob("*") if path.is_file()}


def _run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        args, cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def _skip_if_not_served(installed: subprocess.CompletedProcess[str]) -> None:
    line = next((line for line in installed.stderr.splitlines() if any(each in line for each in NOT_SERVED)), None)
    if line:
        pytest.skip(f"this machine's package index lacks a pinned version: {line}")
