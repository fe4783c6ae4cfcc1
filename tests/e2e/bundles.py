"""Bundles that differ from a real one in what a test is about, and take no space."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml


def linked(bundle: Path, folder: Path) -> dict[str, Any]:
    """The folder holds links to every file of the bundle; returns what its bundle.yaml, to be written, should say."""
    described: dict[str, Any] = yaml.safe_load((bundle / "bundle.yaml").read_bytes())
    for file in described["files"]:
        link = folder / file["path"]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(bundle / file["path"])
    return described


def write(folder: Path, described: dict[str, Any]) -> Path:
    (folder / "bundle.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    return folder


def entry(path: str, content: bytes) -> dict[str, object]:
    """A file, as bundle.yaml lists it."""
    checksum = hashlib.sha256(content).hexdigest()
    return {"path": path, "sha256": checksum, "size": len(content), "source": "a test"}
