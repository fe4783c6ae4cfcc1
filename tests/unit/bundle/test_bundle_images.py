"""Image archives: the same content gives the same bytes, readable as an OCI layout and as `docker save` output."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from labctl.bundle.images import EPOCH, Copy, Link, reference_of, write_archive, write_layer

REFERENCE = "registry.example/team/tool:v1.2"


def _archive(folder: Path, *, mtime: float = 1.0, reverse: bool = False) -> Path:
    folder.mkdir()
    program, settings = folder / "program", folder / "settings"
    program.write_bytes(b"\x7fELF" + b"x" * 3_000_000)
    settings.write_text("a = 1\n", encoding="utf-8")
    for file in (program, settings):
        os.utime(file, (mtime, mtime))
    entries: list[Copy | Link] = [
        Copy("usr/bin/tool", program, 0o755),
        Copy("etc/tool.conf", settings, 0o644),
        Link("usr/bin/other", "tool"),
    ]
    write_layer(folder / "layer.tar", reversed(entries) if reverse else entries)
    config = {"Entrypoint": ["/usr/bin/tool"], "Env": ["PATH=/usr/bin"]}
    archive = folder / "image.tar"
    write_archive(archive, reference=REFERENCE, architecture="arm64", config=config, layers=[folder / "layer.tar"])
    return archive


def _json(tar: tarfile.TarFile, name: str) -> Any:  # noqa: ANN401 - JSON has no narrower type
    member = tar.extractfile(name)
    assert member is not None
    return json.load(member)


def test_the_same_content_gives_the_same_bytes_regardless_of_order_and_clock(tmp_path: Path) -> None:
    first = _archive(tmp_path / "a", mtime=1.0)
    second = _archive(tmp_path / "b", mtime=2_000_000_000.0, reverse=True)
    assert first.read_bytes() == second.read_bytes()


def test_every_blob_is_named_after_its_content_and_every_descriptor_matches_its_blob(tmp_path: Path) -> None:
    with tarfile.open(_archive(tmp_path / "a")) as tar:
        blobs = {member.name: member for member in tar if member.name.startswith("blobs/")}
        for name, member in blobs.items():
            content = tar.extractfile(member)
            assert content is not None
            assert hashlib.sha256(content.read()).hexdigest() == name.rpartition("/")[2]
        (entry,) = _json(tar, "index.json")["manifests"]
        manifest = _json(tar, _blob(entry["digest"]))
        for descriptor in (entry, manifest["config"], *manifest["layers"]):
            assert blobs[_blob(descriptor["digest"])].size == descriptor["size"]
        image = _json(tar, _blob(manifest["config"]["digest"]))
        assert image["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
        assert image["config"]["Entrypoint"] == ["/usr/bin/tool"]
        assert (image["os"], image["architecture"]) == ("linux", "arm64")


def test_containerd_and_docker_find_the_full_reference(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a")
    assert reference_of(archive) == REFERENCE
    with tarfile.open(archive) as tar:
        (entry,) = _json(tar, "index.json")["manifests"]
        assert entry["annotations"]["org.opencontainers.image.ref.name"] == "v1.2"
        assert _json(tar, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
        (docker,) = _json(tar, "manifest.json")
        assert docker["RepoTags"] == [REFERENCE]
        assert {docker["Config"], *docker["Layers"]} <= set(tar.getnames())


def test_a_layer_holds_the_entries_and_their_folders_owned_by_root(tmp_path: Path) -> None:
    _archive(tmp_path / "a")
    with tarfile.open(tmp_path / "a" / "layer.tar") as tar:
        members = {member.name: member for member in tar}
        assert list(members) == ["etc", "etc/tool.conf", "usr", "usr/bin", "usr/bin/other", "usr/bin/tool"]
        assert members["usr/bin"].isdir()
        assert members["usr/bin/other"].linkname == "tool"
        assert members["usr/bin/tool"].mode == 0o755
        assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, EPOCH)}


def _blob(digest: str) -> str:
    return digest.replace("sha256:", "blobs/sha256/")
