"""A real browser shows the app's page at the app's name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import packages
import pytest

from . import png
from .reallab import RealLab

pytestmark = pytest.mark.e2e

ADDRESS = "192.168.56.100"
WIDTH, HEIGHT = 1024, 768
WHITE = b"\xff\xff\xff"
PAGE_MILLISECONDS = 20_000
ARTEFACTS = Path(os.environ.get("LABCTL_TEST_ARTEFACTS") or Path(__file__).parents[2] / ".artefacts")
"""The folder that keeps the screenshot after the tests."""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # root cannot use the sandbox
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # small in containers
    "--no-proxy-server",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    f"--timeout={PAGE_MILLISECONDS}",
    f"--window-size={WIDTH},{HEIGHT}",
    # Resolves to the lab's ingress controller, but no Ingress has this name.
    f"--host-resolver-rules=MAP nobody.local {ADDRESS}",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    """Install Debian's Chromium if it is missing; return its command."""
    if not (shutil.which("chromium") or shutil.which("apt-get")):
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("there is no chromium, and no apt-get to install it")
    packages.install(("chromium",), ("chromium",))
    return "chromium"


def test_a_browser_in_the_labs_network_shows_the_app_at_its_name(
    lab: RealLab, chromium: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    screenshot = _screenshot(lab, chromium, "http://my-app.local", ARTEFACTS.resolve() / "my-app.png")
    record_property("kept", f"{screenshot}: http://my-app.local in Chromium")
    other = _screenshot(lab, chromium, "http://nobody.local", tmp_path / "nobody.png")
    picture = png.read(screenshot.read_bytes())
    [(background, _), *marks] = picture.colours.most_common()

    assert (picture.width, picture.height) == (WIDTH, HEIGHT)
    assert background[:3] == WHITE
    assert marks
    assert picture.colours != png.read(other.read_bytes()).colours


def test_a_browser_in_the_labs_network_gets_the_apps_page_only_at_its_name(lab: RealLab, chromium: str) -> None:
    assert "Welcome to nginx!" in _browse(lab, chromium, "http://my-app.local", "--dump-dom")
    assert "404" in (other := _browse(lab, chromium, "http://nobody.local", "--dump-dom"))
    assert "Welcome to nginx!" not in other


def test_open_checks_the_lab_and_opens_no_page_that_cannot_load(lab: RealLab) -> None:
    user = replace(lab, environment={"BROWSER": "true %s &"})
    opened = user.labctl("-o", "json", "open").document()
    unserved = user.labctl("-o", "json", "open", "nobody.local", code=8).document()
    lab.labctl("hosts", "remove")
    nameless = user.labctl("-o", "json", "open", code=8).document()
    lab.labctl("hosts", "sync")

    assert (opened["url"], opened["browser"], opened["warnings"]) == ("http://my-app.local", "true", [])
    assert unserved["error"]["id"] == "hostname-not-served"
    assert nameless["error"]["id"] == "hosts-entry-missing"


def _screenshot(lab: RealLab, chromium: str, url: str, path: Path) -> Path:
    path.unlink(missing_ok=True)
    _browse(lab, chromium, url, f"--screenshot={path}")
    assert path.exists(), f"{url} could not be loaded"  # Chromium exits with 0 anyway
    return path


def _browse(lab: RealLab, chromium: str, url: str, what: str) -> str:
    """Open the page in Chromium with a new profile, and return its stdout."""
    profile = mkdtemp()
    try:
        return lab.inside(chromium, *OPTIONS, f"--user-data-dir={profile}", what, url)
    finally:
        shutil.rmtree(profile)
