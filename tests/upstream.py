"""Unmodified manifests of other projects, so that tests use the same files as users.

A file comes from the folder in LABCTL_UPSTREAM, from ../shared/upstream beside the checkout, or from the tests' cache,
into which it is downloaded once. Its checksum must match in every case.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from platformdirs.unix import Unix

SECONDS = 20.0
CACHE = Unix("labctl-tests").user_cache_path / "upstream"
SIBLING = Path(__file__).parents[2] / "shared" / "upstream"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a release: its URL and checksum."""

    url: str
    sha256: str


FILES = {
    "metallb-native-v0.16.1.yaml": File(
        "https://raw.githubusercontent.com/metallb/metallb/v0.16.1/config/manifests/metallb-native.yaml",
        "bf25feebb7582ca7df845efd52ffbc2960d6cbf4cfc972f47fded9f788b67f0b",
    ),
    "ingress-nginx-cloud.yaml": File(
        "https://raw.githubusercontent.com/kubernetes/ingress-nginx/controller-v1.15.1/deploy/static/provider/cloud/deploy.yaml",
        "502fddca66b09c20dd48b6d0a792a9671cd663a3a0d2a8bda5ae990d13b6c5b2",
    ),
    "ingress-nginx-baremetal.yaml": File(
        "https://raw.githubusercontent.com/kubernetes/ingress-nginx/controller-v1.15.1/deploy/static/provider/baremetal/deploy.yaml",
        "16b9b62df45b8ed8f1ecaed0341d583b3360e4b63c41fe00413f6a1fa2f95bec",
    ),
}


def content(name: str) -> bytes:
    """Return a file as its project released it.

    If it is unavailable, skip the test; in continuous integration, fail.
    """
    file = FILES[name]
    for path in _places(name):
        if path.exists():
            return _checked(path.read_bytes(), file, str(path))
    try:
        response = requests.get(file.url, timeout=SECONDS)
        response.raise_for_status()
    except requests.RequestException as error:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"{name} cannot be downloaded: {error}. Put it into a folder, and name the folder in LABCTL_UPSTREAM.")
    downloaded = _checked(response.content, file, file.url)
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = CACHE / f"{name}.{os.getpid()}"
    partial.write_bytes(downloaded)
    partial.replace(CACHE / name)
    return downloaded


def _places(name: str) -> list[Path]:
    folders = [Path(os.environ[variable]) for variable in ("LABCTL_UPSTREAM",) if variable in os.environ]
    return [folder / name for folder in (*folders, SIBLING, CACHE)]


def _checked(content: bytes, file: File, place: str) -> bytes:
    checksum = hashlib.sha256(content).hexdigest()
    assert checksum == file.sha256, f"{place} has the wrong SHA-256: {checksum} instead of {file.sha256}"
    return content
