"""Which bundles there are, and what to know of each."""

from __future__ import annotations

from pathlib import Path

from labctl.bundle.checksums import verify
from labctl.bundle.format import Bundle, installed, load
from labctl.model.events import Progress
from labctl.model.reports import BundleEntry


def listed(cache: Path) -> list[BundleEntry]:
    """Return every bundle in the cache, the newest first."""
    return [described(bundle) for bundle in installed(cache)]


def described(bundle: Bundle) -> BundleEntry:
    """Return what to know of a bundle."""
    return {
        "id": bundle.id,
        "kubernetes": bundle.versions.get("kubernetes"),
        "metallb": bundle.versions.get("metallb"),
        "traefik": bundle.versions.get("traefik"),
        "nginx": bundle.versions.get("nginx"),
        "architecture": bundle.architecture,
        "MiB": sum(file.size for file in bundle.files) // 2**20,
        "folder": str(bundle.folder),
    }


def verified(folder: Path | None, cache: Path, report: Progress) -> list[BundleEntry]:
    """Check each file of the bundle in the folder, or of every bundle in the cache; return them. Raises MissingError."""
    bundles = (load(folder),) if folder else installed(cache)
    for bundle in bundles:
        verify(bundle, cache, report)
    return [described(bundle) for bundle in bundles]
