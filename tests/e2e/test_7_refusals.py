"""Situations that labctl must refuse: with one clear error and its exit code, and without partial changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from . import bundles
from .reallab import RealLab, isolated, run

pytestmark = pytest.mark.e2e

DAMAGED = "images/nginx.packages"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder with room for 16 MiB."""
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path))
    yield tmp_path
    run("umount", str(tmp_path))


@pytest.fixture
def absent_lab(state_home: Path, bundle: Path) -> RealLab:
    """Return a lab that was never created."""
    return isolated("e2e-none", state_home, bundle)


@pytest.mark.parametrize(
    ("values", "identity"),
    [("ingress: ingress-nginx", "ingress-not-carried"), ("kubernetes: 1.36.0", "bundle-version")],
)
def test_what_the_bundle_does_not_have_is_refused_before_any_change(
    absent_lab: RealLab, tmp_path: Path, values: str, identity: str
) -> None:
    (tmp_path / "labctl.yaml").write_text(values, encoding="utf-8")

    error = absent_lab.up("--config", str(tmp_path / "labctl.yaml"), code=3).result()["error"]

    assert error["id"] == identity
    assert not Path("/run/netns/labctl-e2e-none").exists()
    assert not (absent_lab.folder / "lab.json").exists()


def test_a_damaged_bundle_is_refused_with_the_name_of_the_file(
    absent_lab: RealLab, bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    described = bundles.link_files(bundle, folder)
    content = bytearray((folder / DAMAGED).read_bytes())
    content[0] ^= 1
    (folder / DAMAGED).unlink()
    (folder / DAMAGED).write_bytes(content)
    # Without large files, which only take time. A separate cache keeps the recorded checks of the real bundle out.
    described["files"] = [file for file in described["files"] if file["size"] < 2**20]
    bundles.write(folder, described)

    lab = replace(absent_lab, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    error = lab.up("--bundle", str(folder), code=3).result()["error"]

    assert error["id"] == "bundle-damaged"
    assert DAMAGED in error["message"]
    assert not Path("/run/netns/labctl-e2e-none").exists()


def test_another_network_for_a_running_lab_is_refused_with_the_difference(lab: RealLab, tmp_path: Path) -> None:
    config = tmp_path / "labctl.yaml"
    config.write_text(json.dumps({"network": "192.168.57.0/24"}), encoding="utf-8")
    error = lab.up("--config", str(config), code=2).result()["error"]

    assert error["id"] == "lab-differs"
    assert all(value in error["message"] for value in ("network", "192.168.56.0/24", "192.168.57.0/24"))
    assert lab.status()["ok"]


def test_another_state_folder_cannot_take_over_a_running_lab(lab: RealLab, tmp_path: Path) -> None:
    elsewhere = replace(lab, state_home=tmp_path)
    error = elsewhere.up(code=3).result()["error"]

    assert error["id"] == "owned-elsewhere"
    assert str(lab.folder) in error["message"]
    assert not (elsewhere.folder / "lab.json").exists()
    assert lab.status()["ok"]


def test_a_missing_lab_cannot_be_destroyed(absent_lab: RealLab) -> None:
    lab = replace(absent_lab, name="e2e-never")
    error = lab.labctl("-o", "json", "destroy", "--yes", code=3).result()["error"]

    assert error["id"] == "lab-not-found"
    assert "e2e-never" in error["message"]


def test_a_bundle_that_does_not_fit_on_the_disk_is_refused(absent_lab: RealLab, small_disk: Path) -> None:
    lab = replace(absent_lab, environment={"XDG_CACHE_HOME": str(small_disk)})
    error = lab.labctl("bundle", "build", "--yes", "-o", "json", code=3).result()["error"]

    assert error["id"] == "disk-full"
    assert str(small_disk) in error["message"]
