"""What tests need of Debian's packages and this machine lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from e2e.reallab import eventually, finished, run

APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=600")
SECONDS = 900.0
"""How long apt may take, with the wait for another one."""


def bring(needed: Sequence[str], names: Sequence[str]) -> None:
    """Install the packages of these names unless all that is needed, programs and files by their paths, is there.

    Skip the test where only root may do so. Another process may use apt at the same time.
    """
    missing = _missing(needed)
    if not missing:
        return
    if os.geteuid() != 0:
        pytest.skip(f"needs {', '.join(missing)}, which root may install")
    update = [*APT, "update"]  # apt does not wait for another one that fetches its lists
    eventually(lambda: finished(update, SECONDS), lambda ended: ended.code == 0, SECONDS)
    run(*APT, "install", "-y", "--no-install-recommends", *names, seconds=SECONDS)
    assert _missing(needed) == []


def _missing(needed: Sequence[str]) -> list[str]:
    return [name for name in needed if not (Path(name).exists() if "/" in name else shutil.which(name))]
