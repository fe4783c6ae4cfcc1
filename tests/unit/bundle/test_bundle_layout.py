"""A bundle as an OCI artefact, and in one file."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import travelling

from labctl.bundle import checksums, layout
from labctl.bundle.documents import IMAGE_INDEX, IMAGE_MANIFEST, Document, written
from labctl.bundle.format import Bundle
from labctl.bundle.layout import IMAGE_NAME, Artefact, arriving, artefact, chosen, holds_image, with_entries
from labctl.bundle.oci import file as bundle_file
from labctl.bundle.oci import push as pushing
from labctl.model.errors import LabError


def _silent(_text: str) -> None:
    pass


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    return travelling.bundle(tmp_path / "made")


def _exported(made: Bundle, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    bundle_file.export(artefact(made), folder / "bundle.tar", _silent)
    return folder / "bundle.tar"


def test_images_keep_their_manifests_and_share_their_layers(made: Bundle) -> None:
    described = artefact(made)
    assert [image.tag for image in described.images] == ["nginx-1.26.3", "shop-1.0", "saved-2"]
    nginx, shop, saved = (json.loads(image.manifest.content) for image in described.images)
    assert nginx["layers"][0] == shop["layers"][0]
    for manifest in (nginx, shop, saved):
        assert {each["digest"] for each in (manifest["config"], *manifest["layers"])} <= set(described.blobs)
    travelling_bytes = sum(map(len, (each for each in described.blobs.values() if isinstance(each, bytes))))
    assert travelling_bytes < 100_000


def test_a_file_brings_the_same_bundle_and_is_always_the_same(made: Bundle, tmp_path: Path) -> None:
    first, second = _exported(made, tmp_path / "a"), _exported(made, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    cache = tmp_path / "cache"
    imported = bundle_file.import_bundle(first, "amd64", cache, _silent)
    assert imported.folder == cache / "bundles" / made.id
    assert travelling.same(imported.folder, made.folder)
    checksums.verify(imported, cache, _silent)
    assert sorted(path.name for path in imported.folder.parent.iterdir()) == [made.id, f"{made.id}.lock"]


def test_what_a_bundle_in_the_cache_lacks_is_put_right(made: Bundle, tmp_path: Path) -> None:
    file, cache = _exported(made, tmp_path / "a"), tmp_path / "cache"
    there = bundle_file.import_bundle(file, "amd64", cache, _silent)
    there.path("bin/kubectl").unlink()
    there.path("images/nginx.tar").write_bytes(b"damaged")
    bundle_file.import_bundle(file, "amd64", cache, _silent)
    assert travelling.same(there.folder, made.folder)
    (there.folder / "bundle.yaml").write_bytes((there.folder / "bundle.yaml").read_bytes() + b"\n")
    with pytest.raises(LabError) as refused:
        bundle_file.import_bundle(file, "amd64", cache, _silent)
    assert refused.value.id == "bundle-differs"


def _truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flipped(file: Path) -> None:
    with tarfile.open(file) as tar:
        largest = max(tar, key=lambda member: member.size)
    with file.open("r+b") as opened:
        opened.seek(largest.offset_data + 100)
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 1]))


def _replaced(file: Path) -> None:
    file.write_bytes(b"not a tar archive" * 100)


def _other_archive(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "other.py")


def _gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("change", "identity"),
    [
        (_truncated, "bundle-file-damaged"),
        (_flipped, "bundle-file-damaged"),
        (_replaced, "bundle-artefact"),
        (_other_archive, "bundle-artefact"),
        (_gone, "file-not-usable"),
    ],
)
def test_a_bad_file_is_one_error_and_leaves_nothing(
    made: Bundle, tmp_path: Path, change: Callable[[Path], None], identity: str
) -> None:
    file = _exported(made, tmp_path / "a")
    change(file)
    with pytest.raises(LabError) as refused:
        bundle_file.import_bundle(file, "amd64", tmp_path / "cache", _silent)
    assert refused.value.id == identity
    assert not [path for path in (tmp_path / "cache").rglob("*") if not path.name.endswith(".lock") and path.is_file()]


@pytest.mark.parametrize(
    ("words", "architecture", "identity"),
    [
        (None, "arm64", "bundle-architecture"),
        ((b'"bundle_schema":2', b'"bundle_schema":3'), "amd64", "bundle-schema"),
        ((b'"schema":1', b'"schema":2'), "amd64", "bundle-schema"),
    ],
)
def test_a_bundle_for_another_machine_or_another_labctl_is_refused(
    made: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[bytes, bytes] | None,
    architecture: str,
    identity: str,
) -> None:
    if words:
        config = layout._config(made).replace(*words)
        monkeypatch.setattr(layout, "_config", lambda _bundle: config)
    file = _exported(made, tmp_path / "a")
    with pytest.raises(LabError) as refused:
        bundle_file.import_bundle(file, architecture, tmp_path / "cache", _silent)
    assert refused.value.id == identity
    assert not (tmp_path / "cache").exists()


def test_a_stick_without_room_is_told_with_both_sizes(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=3 << 20))
    monkeypatch.setattr(bundle_file, "size_of", lambda _content: 1 << 20)
    with pytest.raises(LabError) as refused:
        _exported(made, tmp_path / "a")
    assert refused.value.id == "disk-full"
    assert "3 MiB are free" in refused.value.message
    assert list((tmp_path / "a").iterdir()) == []


def test_an_index_keeps_what_it_has_of_other_architectures(made: Bundle, tmp_path: Path) -> None:
    other = artefact(travelling.bundle(tmp_path / "other", "arm64"))
    changed = artefact(travelling.bundle(tmp_path / "changed", shop="stall"))
    index = with_entries(None, "arm64", other.descriptors)
    for each in (artefact(made), changed):
        index = with_entries(index.content, "amd64", each.descriptors)
    assert chosen(index, "arm64", "it") == other.manifest.digest
    assert chosen(index, "amd64", "it") == changed.manifest.digest
    assert len(json.loads(index.content)["manifests"]) == len(other.descriptors) + len(changed.descriptors)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "bin/../../x", "", "bin//x"])
def test_no_file_is_written_outside_of_the_bundle(made: Bundle, path: str) -> None:
    described: Artefact = artefact(made)
    content = described.manifest.content.replace(b'"bin/kubectl"', json.dumps(path).encode())
    with pytest.raises(LabError) as refused:
        arriving(Document(described.manifest.media_type, content), "it")
    assert refused.value.id == "bundle-artefact"


def test_an_index_of_something_else_is_no_bundle() -> None:
    with pytest.raises(LabError) as refused:
        chosen(Document(IMAGE_INDEX, b'{"manifests": []}'), "amd64", "it")
    assert refused.value.id == "bundle-artefact"


OURS = {"annotations": {IMAGE_NAME: "labctl.local/nginx:1"}}


@pytest.mark.parametrize(
    ("media_type", "entries", "expected"),
    [
        (IMAGE_INDEX, [OURS, OURS], True),
        (IMAGE_INDEX, [], True),
        (IMAGE_INDEX, [OURS, {"platform": {"architecture": "arm64"}}], False),
        (IMAGE_INDEX, [{"annotations": {IMAGE_NAME: "docker.io/library/nginx:1"}}], False),
        (IMAGE_INDEX, [{"annotations": None}], False),
        (IMAGE_INDEX, [1], False),
        (IMAGE_MANIFEST, [OURS], False),
    ],
)
def test_an_image_of_somebody_else_is_told_from_ours(media_type: str, entries: list[Any], expected: bool) -> None:  # noqa: FBT001 - a table's
    document = written(media_type, {"manifests": entries})
    assert holds_image(document, "labctl.local/nginx:1@sha256:0") is expected


def test_a_push_ends_at_once_while_the_registry_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_END_SECONDS", 0.01)
    monkeypatch.setattr(pushing, "_TICK_SECONDS", 0.01)
    silence, stopped = threading.Event(), threading.Event()

    def interrupt() -> None:
        raise KeyboardInterrupt

    registry: Any = SimpleNamespace(stop=stopped.set)
    try:
        with pytest.raises(KeyboardInterrupt):
            pushing._at_once(lambda _item: silence.wait(60), range(8), registry, interrupt)
        assert stopped.is_set()
    finally:
        silence.set()
