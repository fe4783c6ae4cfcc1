"""A small bundle for tests of push, pull, export and import: a few files, labctl's own images and a foreign one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from labctl.bundle.format import Bundle, File, Image, load, write
from labctl.bundle.images import Copy, write_archive, write_layer
from labctl.model.lab import Phase

ID = "kubernetes-1.37.2-{}-0123abcd"
LAYER = 120_000


def content(name: str, size: int = LAYER) -> bytes:
    """Return incompressible bytes that depend on the name only."""
    return hashlib.shake_256(name.encode()).digest(size)


def bundle(folder: Path, architecture: str = "amd64", shop: str = "shop") -> Bundle:
    """Return a finished bundle in a folder named after its id; `shop` selects the content of one image."""
    there = folder / ID.format(architecture)
    for path, data in {
        "bin/kubectl": content(f"kubectl {architecture}"),
        "base/node.tar": content("node"),
        "images/nginx.packages": b"nginx 1.26.3\n",
        "manifests/metallb-native.yaml": b"kind: List\n",
    }.items():
        (there / path).parent.mkdir(parents=True, exist_ok=True)
        (there / path).write_bytes(data)
    (there / "bin/kubectl").chmod(0o755)
    (there / "images").mkdir(exist_ok=True)
    _own_image(there / "images/nginx.tar", "labctl.local/nginx:1.26.3", architecture, ["shared", "nginx"])
    _own_image(there / "images/shop.tar", "labctl.local/shop:1.0", architecture, ["shared", shop])
    _saved_image(there / "images/saved.tar", "docker.io/library/saved:2", architecture)
    images = tuple(
        Image(reference, f"images/{name}.tar", "node", Phase.ADDONS)
        for name, reference in {
            "nginx": "labctl.local/nginx:1.26.3",
            "shop": "labctl.local/shop:1.0",
            "saved": "docker.io/library/saved:2",
        }.items()
    )
    files = tuple(
        File(str(path.relative_to(there)), hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, "a test")
        for path in sorted(there.rglob("*"))
        if path.is_file() and path.name != "bundle.yaml"
    )
    write(
        Bundle(there, there.name, "build", architecture, {"kubernetes": "1.37.2"}, images, images[0].reference, files)
    )
    return load(there)


def same_files(one: Path, other: Path) -> bool:
    """Return whether two folders have the same files, with equal contents and executable bits."""
    return _files(one) == _files(other)


def _files(folder: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in folder.rglob("*")
        if path.is_file()
    }


def _own_image(archive: Path, reference: str, architecture: str, layers: list[str]) -> None:
    paths = [archive.with_name(f"{name}.layer") for name in layers]
    for layer in paths:
        source = layer.with_suffix(".content")
        source.write_bytes(content(layer.stem))
        write_layer(layer, [Copy(f"usr/share/{layer.stem}", source, 0o644)])
        source.unlink()
    write_archive(archive, reference=reference, architecture=architecture, config={}, layers=paths)
    for layer in paths:
        layer.unlink()


def _saved_image(archive: Path, reference: str, architecture: str) -> None:
    """Write an archive in the old format of `docker save`, with an entry that is no layer."""
    files = {
        "0a/layer.tar": content("saved"),
        "0a/VERSION": b"1.0",
        "config.json": json.dumps({"architecture": architecture, "os": "linux"}).encode(),
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": [reference], "Layers": ["0a/layer.tar"]}]
        ).encode(),
    }
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(data), 12345, "somebody"
            tar.addfile(member, io.BytesIO(data))
