"""A real lab, booted once for all tests; and the machine around it, which must be afterwards what it was before.

The numbers in the names of the test files are their order: what breaks the lab comes after what looks at it.
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
from .kills import NEVER_UP, killed
from .reallab import LABCTL, Ran, RealLab, isolated, run

BUNDLE_SECONDS = 40 * 60.0
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
HOSTS = Path("/etc/hosts")
FORWARDING = IP_FORWARD.read_text() if IP_FORWARD.exists() else ""
"""Read before any test has a lab: each of several processes collects all tests before the first one runs."""


@pytest.fixture(scope="session", autouse=True)
def machine() -> Iterator[None]:
    """A machine that can run labs, and that no lab of the tests has changed when the last test has ended."""
    if sys.platform != "linux" or os.geteuid() != 0:
        # Continuous integration that skips these would show nothing.
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"end-to-end tests need root on Linux; this is {sys.platform}, as user {os.getuid()}")
    hosts = HOSTS.read_bytes()
    yield
    assert HOSTS.read_bytes() == hosts
    assert footprint.other_labs_run(*footprint.destroyed) or IP_FORWARD.read_text() == FORWARDING


@pytest.fixture(scope="session")
def state_home() -> Iterator[Path]:
    """A folder for labs' state on a real disk: an Engine's data can live neither in memory nor on an overlay."""
    folder = Path(tempfile.mkdtemp(prefix="labctl-e2e-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The folder of the bundle that labctl builds, in the user's own cache; a finished one is used as it is."""
    *_, done, _ = run(str(LABCTL), "bundle", "build", "--yes", "-o", "json", seconds=BUNDLE_SECONDS).splitlines()
    identity = json.loads(done)["text"]
    listed = json.loads(run(str(LABCTL), "bundle", "list", "-o", "json"))["bundles"]
    return next(Path(each["folder"]) for each in listed if each["id"] == identity)


@pytest.fixture(scope="session")
def first_up(bundle: Path, state_home: Path) -> Iterator[tuple[RealLab, Ran]]:
    """A lab that is up, and what the `up` said that made it from nothing."""
    with footprint.destroyed_afterwards(isolated("e2e", state_home, bundle)) as lab:
        yield lab, lab.up()


@pytest.fixture(scope="session")
def lab(first_up: tuple[RealLab, Ran]) -> RealLab:
    """A lab that is up. Whoever breaks it repairs it."""
    return first_up[0]


@pytest.fixture(scope="session")
def survivor(bundle: Path, state_home: Path) -> Iterator[RealLab]:
    """A lab whose every `up` was killed, each a little later than the one before; then up at last."""
    with footprint.destroyed_afterwards(isolated("e2e-k", state_home, bundle)) as lab:
        for point in NEVER_UP:
            killed(lab, point, "up", *lab.up_options)
        lab.up()
        yield lab
