"""The scripts of the workflows that `.ci/run` does not run itself, on this machine and with its package index."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import travelling
from docker_registry import PASSWORD, USER, log_in, running

from labctl.bundle.layout import artefact
from labctl.bundle.oci import file

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]
NOT_SERVED = ("No matching distribution found", "No solution found", "Failed to fetch")
"""Messages of pip and uv if the package index lacks a pinned version, or is not the one that uv uses."""


@pytest.fixture
def disk() -> Iterator[Path]:
    """Yield a folder with room for a bundle; pytest's own may be in memory, and is kept."""
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
    fast = _run(".ci/fast", "tests/golden/every/test_papers.py", PATH=path)
    assert fast.returncode == 0, fast.stdout


def test_a_bundle_is_packed_with_its_checksum(bundle: Path, disk: Path) -> None:
    packed = _run(".ci/bundle", str(disk), PATH=_path())

    assert packed.returncode == 0, packed.stderr
    archive = disk / f"{bundle.name}.tar"
    with archive.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    assert archive.with_name(f"{archive.name}.sha256").read_text() == f"{checksum}  {archive.name}\n"
    bill = json.loads((disk / "bundle.cdx.json").read_text())
    assert {each["name"] for each in bill["components"]} >= {"bin/kubelet", "registry.k8s.io/kube-proxy", "systemd"}
    imported = _labctl("bundle", "import", str(archive), XDG_CACHE_HOME=str(disk / "cache"))
    assert imported.returncode == 0, imported.stderr
    assert travelling.same_files(disk / "cache/labctl/bundles" / bundle.name, bundle)


def test_a_packed_bundle_is_pushed_to_a_registry(disk: Path) -> None:
    built = travelling.bundle(disk / "made")
    (disk / "packed").mkdir()
    file.export(artefact(built), disk / "packed" / f"{built.id}.tar", lambda _text: None)
    environment = {"REGISTRY_USER": USER, "REGISTRY_PASSWORD": PASSWORD, "PATH": _path()}
    with running(disk / "registry") as served:
        reference = f"{served.host}/labs/bundle:1"
        caches = {name: str(disk / name) for name in ("teacher", "student")}
        environment |= {"SSL_CERT_FILE": str(served.certificate), "BUNDLE_REFERENCE": reference}
        pushed = _run(".ci/push", str(disk / "packed"), XDG_CACHE_HOME=caches["teacher"], **environment)
        assert pushed.returncode == 0, pushed.stderr
        log_in(disk / "docker", served.host)
        known = {"DOCKER_CONFIG": str(disk / "docker"), "SSL_CERT_FILE": str(served.certificate)}
        pulled = _labctl("bundle", "pull", reference, XDG_CACHE_HOME=caches["student"], **known)
        assert pulled.returncode == 0, pulled.stderr
    assert travelling.same_files(disk / "student/labctl/bundles" / built.id, built.folder)


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def _labctl(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run("labctl", *args, PATH=_path(), **environment)


def _run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        args, cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def _skip_if_not_served(installed: subprocess.CompletedProcess[str]) -> None:
    line = next((line for line in installed.stderr.splitlines() if any(each in line for each in NOT_SERVED)), None)
    if line:
        pytest.skip(f"this machine's package index lacks a pinned version: {line}")
