"""Fixtures: a real lab, booted once for all tests, and a check that the machine is unchanged afterwards.

The numbers in the names of test files define their order: tests that break the lab run after tests that only read it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import footprint
from .kills import UP_POINTS, run_until_killed
from .reallab import LABCTL, Completed, RealLab, isolated, run

BUNDLE_SECONDS = 40 * 60.0
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
HOSTS = Path("/etc/hosts")
FORWARDING = IP_FORWARD.read_text() if IP_FORWARD.exists() else ""
"""Read before any lab exists: every worker process collects all tests before the first one runs."""


@pytest.fixture(scope="session", autouse=True)
def machine() -> Iterator[None]:
    """Require a machine that can run labs, and check after the last test that no lab has changed it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        # In continuous integration, skipped tests would hide failures.
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"end-to-end tests need root on Linux; this is {sys.platform}, as user {os.getuid()}")
    hosts = HOSTS.read_bytes()
    yield
    assert HOSTS.read_bytes() == hosts
    assert footprint.other_labs_run(*footprint.destroyed) or IP_FORWARD.read_text() == FORWARDING


@pytest.fixture(scope="session")
def state_home() -> Iterator[Path]:
    """Yield a folder for labs' state on a real disk: an Engine's data cannot be in memory or on an overlay."""
    folder = Path(tempfile.mkdtemp(prefix="labctl-e2e-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def bundle() -> Path:
    """Build the bundle in the user's own cache, unless it is complete; return its folder."""
    *_, done, _ = run(str(LABCTL), "bundle", "build", "--yes", "-o", "json", seconds=BUNDLE_SECONDS).splitlines()
    identity = json.loads(done)["text"]
    listed = json.loads(run(str(LABCTL), "bundle", "list", "-o", "json"))["bundles"]
    return next(Path(each["folder"]) for each in listed if each["id"] == identity)


@pytest.fixture(scope="session")
def first_up(bundle: Path, state_home: Path) -> Iterator[tuple[RealLab, Completed]]:
    """Yield a lab that is up, and the output of the `up` that created it."""
    with footprint.destroyed_afterwards(isolated("e2e", state_home, bundle)) as lab:
        yield lab, lab.up()


@pytest.fixture(scope="session")
def lab(first_up: tuple[RealLab, Completed]) -> RealLab:
    """Return a lab that is up. A test that breaks it must repair it."""
    return first_up[0]


@pytest.fixture(scope="session")
def survivor(bundle: Path, state_home: Path) -> Iterator[RealLab]:
    """Yield a lab that is up after `up` was killed again and again, each time a little later."""
    with footprint.destroyed_afterwards(isolated("e2e-k", state_home, bundle)) as lab:
        for point in UP_POINTS:
            run_until_killed(lab, point, "up", *lab.up_options)
        lab.up()
        yield lab
