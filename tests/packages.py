"""Installation of Debian packages that tests need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from e2e.reallab import eventually, execute, run

APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=600")
SECONDS = 900.0
"""Time limit of apt, including the wait for another apt."""


def install(needed: Sequence[str], names: Sequence[str]) -> None:
    """Install these packages, unless all needed programs, and files by their paths, exist.

    Skip the test if they are missing and this is not root. Another process may use apt at the same time.
    """
    missing = _missing(needed)
    if not missing:
        return
    if os.geteuid() != 0:
        pytest.skip(f"needs {', '.join(missing)}, which root may install")
    update = [*APT, "update"]  # `apt-get update` fails while another apt updates its lists, so repeat it
    eventually(lambda: execute(update, SECONDS), lambda completed: completed.code == 0, SECONDS)
    run(*APT, "install", "-y", "--no-install-recommends", *names, seconds=SECONDS)
    assert _missing(needed) == []


def _missing(needed: Sequence[str]) -> list[str]:
    return [name for name in needed if not (Path(name).exists() if "/" in name else shutil.which(name))]
