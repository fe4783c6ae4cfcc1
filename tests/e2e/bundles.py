"""Variants of a real bundle that take no space where they are on its filesystem."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import yaml


def link_files(bundle: Path, folder: Path) -> dict[str, Any]:
    """Link every file of the bundle into the folder, or copy it; return the content of the bundle.yaml to write.

    `up` refuses symbolic links, which nodes cannot follow.
    """
    described: dict[str, Any] = yaml.safe_load((bundle / "bundle.yaml").read_bytes())
    for file in described["files"]:
        link = folder / file["path"]
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.parent.stat().st_dev == bundle.stat().st_dev:
            link.hardlink_to(bundle / file["path"])
        else:
            shutil.copyfile(bundle / file["path"], link)
    return described


def write(folder: Path, described: dict[str, Any]) -> Path:
    (folder / "bundle.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    return folder


def copy_renamed(archive: Path, target: Path, name: str) -> Path:
    """Copy the image in a bundle's archive under another name, as an OCI image layout; return the copy."""
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        for member in old:
            file = old.extractfile(member)
            content = file.read() if file else b""
            if member.name == "index.json":
                index = json.loads(content)
                index["manifests"][0]["annotations"] = {"io.containerd.image.name": name}
                content = json.dumps(index).encode()
            if member.name != "manifest.json":
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return target


def entry(path: str, content: bytes) -> dict[str, object]:
    """Return a file's entry in bundle.yaml."""
    checksum = hashlib.sha256(content).hexdigest()
    return {"path": path, "sha256": checksum, "size": len(content), "source": "a test"}
