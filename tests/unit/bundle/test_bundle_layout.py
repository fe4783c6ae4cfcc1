"""A bundle as an OCI artefact, and in one file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import travelling

from labctl.bundle import checksums, layout
from labctl.bundle.format import Bundle
from labctl.bundle.image_archives import split_archive
from labctl.bundle.layout import Artefact, artefact, choose, holds_image, incoming_bundle, with_entries
from labctl.bundle.oci import file as bundle_file
from labctl.bundle.oci import install as installing
from labctl.bundle.oci import pull as pulling
from labctl.bundle.oci import references
from labctl.bundle.spans import Content, Span, digest_of
from labctl.model.errors import LabError, MissingError
from labctl.transfer.documents import IMAGE_INDEX, IMAGE_MANIFEST, IMAGE_NAME, Document, serialise
from labctl.transfer.reference import Reference, parse


def _nothing(_described: object) -> None:
    """Read no nested index: there is none."""


def _silent(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that tests only read."""
    return travelling.bundle(tmp_path_factory.mktemp("original"))


@pytest.fixture
def bundle(tmp_path: Path, original: Bundle) -> Bundle:
    """A bundle that a test may change."""
    folder = tmp_path / "made" / original.id
    shutil.copytree(original.folder, folder)
    return replace(original, folder=folder)


@pytest.fixture(scope="module")
def described(original: Bundle) -> Artefact:
    """An artefact that tests only read."""
    return artefact(original)


def _export(bundle: Bundle, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    bundle_file.export(artefact(bundle), folder / "bundle.tar", _silent)
    return folder / "bundle.tar"


def test_images_keep_their_manifests_and_share_their_layers(bundle: Bundle) -> None:
    described = artefact(bundle)
    assert [image.tag for image in described.images] == ["nginx-1.26.3", "shop-1.0", "saved-2"]
    nginx, shop, saved = (json.loads(image.manifest.content) for image in described.images)
    assert nginx["layers"][0] == shop["layers"][0]
    for manifest in (nginx, shop, saved):
        assert {each["digest"] for each in (manifest["config"], *manifest["layers"])} <= set(described.blobs)
    travelling_bytes = sum(map(len, (each for each in described.blobs.values() if isinstance(each, bytes))))
    assert travelling_bytes < 100_000


def test_an_archive_of_one_architecture_has_no_image_for_another(bundle: Bundle) -> None:
    for image in bundle.images:
        of_this, of_another = (split_archive(bundle.path(image.archive), each) for each in ("amd64", "arm64"))
        assert of_this
        assert of_this.image
        assert of_another
        assert (of_another.image, of_another.image_blobs) == (None, {})


def test_an_export_is_reproducible_and_its_import_gives_the_same_bundle(bundle: Bundle, tmp_path: Path) -> None:
    first, second = _export(bundle, tmp_path / "a"), _export(bundle, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    cache = tmp_path / "cache"
    imported = bundle_file.import_bundle(first, "amd64", cache, _silent)
    assert imported.folder == cache / "bundles" / bundle.id
    assert travelling.same_files(imported.folder, bundle.folder)
    checksums.verify(imported, cache, _silent)
    assert sorted(path.name for path in imported.folder.parent.iterdir()) == [bundle.id, f"{bundle.id}.lock"]


def test_an_import_repairs_a_damaged_bundle_and_refuses_one_with_another_description(
    bundle: Bundle, tmp_path: Path
) -> None:
    file, cache = _export(bundle, tmp_path / "a"), tmp_path / "cache"
    imported = bundle_file.import_bundle(file, "amd64", cache, _silent)
    imported.path("bin/kubectl").unlink()
    imported.path("images/nginx.tar").write_bytes(b"damaged")
    bundle_file.import_bundle(file, "amd64", cache, _silent)
    assert travelling.same_files(imported.folder, bundle.folder)
    (imported.folder / "bundle.yaml").write_bytes((imported.folder / "bundle.yaml").read_bytes() + b"\n")
    with pytest.raises(LabError) as refused:
        bundle_file.import_bundle(file, "amd64", cache, _silent)
    assert refused.value.id == "bundle-differs"
    (imported.folder / "bundle.yaml").write_bytes(b"{")
    with pytest.raises(LabError) as unreadable:
        bundle_file.import_bundle(file, "amd64", cache, _silent)
    assert unreadable.value.id == "bundle-unreadable"
    assert all(f"labctl bundle remove {bundle.id}" in error.value.hint for error in (refused, unreadable))


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip_a_byte(file: Path) -> None:
    with tarfile.open(file) as tar:
        largest = max(tar, key=lambda member: member.size)
    with file.open("r+b") as opened:
        opened.seek(largest.offset_data + 100)
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 1]))


def _overwrite(file: Path) -> None:
    file.write_bytes(b"not a tar archive" * 100)


def _write_other_archive(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "other.py")


def _claim_an_impossible_size(file: Path) -> None:
    member = tarfile.TarInfo("it")
    member.size = 1 << 62
    file.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + file.read_bytes())


def _delete(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("change", "identity"),
    [
        (_truncate, "bundle-file-damaged"),
        (_flip_a_byte, "bundle-file-damaged"),
        (_overwrite, "bundle-artefact"),
        (_write_other_archive, "bundle-artefact"),
        (_claim_an_impossible_size, "bundle-file-damaged"),
        (_delete, "file-not-usable"),
    ],
)
def test_a_failed_import_raises_one_error_and_leaves_nothing(
    bundle: Bundle, tmp_path: Path, change: Callable[[Path], None], identity: str
) -> None:
    file = _export(bundle, tmp_path / "a")
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
def test_a_bundle_of_another_architecture_or_schema_is_refused(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[bytes, bytes] | None,
    architecture: str,
    identity: str,
) -> None:
    if words:
        config = layout._config(bundle).replace(*words)
        monkeypatch.setattr(layout, "_config", lambda _bundle: config)
    file = _export(bundle, tmp_path / "a")
    with pytest.raises(LabError) as refused:
        bundle_file.import_bundle(file, architecture, tmp_path / "cache", _silent)
    assert refused.value.id == identity
    assert not (tmp_path / "cache").exists()


def test_too_little_space_for_an_export_is_reported_with_both_sizes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=3 << 20))
    monkeypatch.setattr(bundle_file, "size_of", lambda _content: 1 << 20)
    with pytest.raises(LabError) as refused:
        _export(bundle, tmp_path / "a")
    assert refused.value.id == "disk-full"
    assert "3 MiB are free" in refused.value.message
    assert "XDG_CACHE_HOME" not in refused.value.hint
    assert list((tmp_path / "a").iterdir()) == []


def test_an_index_keeps_its_entries_of_other_architectures(bundle: Bundle, tmp_path: Path) -> None:
    other = artefact(travelling.bundle(tmp_path / "other", "arm64"))
    changed = artefact(travelling.bundle(tmp_path / "changed", shop="stall"))
    index = with_entries(None, "arm64", other.descriptors)
    for each in (artefact(bundle), changed):
        index = with_entries(index.content, "amd64", each.descriptors)
    assert choose(index, "arm64", "it", _nothing) == other.manifest.digest
    assert choose(index, "amd64", "it", _nothing) == changed.manifest.digest
    assert len(json.loads(index.content)["manifests"]) == len(other.descriptors) + len(changed.descriptors)


@pytest.mark.parametrize(
    "path",
    [
        *("../outside", "/etc/passwd", "bin/../../x", "", "bin//x", ".arriving.yaml", "x" * 201, "x/" * 501 + "x"),
        *("bundle.yaml", "bundle.yaml/x", "base", "base/node.tar/x"),
    ],
)
def test_an_unsafe_path_in_a_manifest_is_refused(described: Artefact, path: str) -> None:
    content = described.manifest.content.replace(b'"bin/kubectl"', json.dumps(path).encode())
    with pytest.raises(LabError) as refused:
        incoming_bundle(Document(described.manifest.media_type, content), "it")
    assert refused.value.id == "bundle-artefact"


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (b'"size":13', b'"size":1e999'),
        (b'"size":13', b'"size":-13'),
        (b'"size":13', b'"size":"13"'),
        (b'"digest":"sha256:', b'"digest":"md5:'),
        (b'"digest":"sha256:', b'"not":"sha256:'),
        (b'"layers":[', b'"layers":[null,'),
        (b'"layers":[', b'"layers":' + DEEP),
        (b'"config":{', b'"config":7,"other":{'),
        (b"{", b"\xff"),
    ],
)
def test_an_invalid_manifest_is_refused(described: Artefact, words: bytes, instead: bytes) -> None:
    manifest = described.manifest
    assert words in manifest.content
    with pytest.raises(LabError) as refused:
        incoming_bundle(Document(manifest.media_type, manifest.content.replace(words, instead)), "it")
    assert refused.value.id == "bundle-artefact"


@pytest.mark.parametrize("part", ["config", "bundle.yaml", "images/nginx.tar"])
def test_an_oversized_description_is_refused(described: Artefact, part: str) -> None:
    manifest = json.loads(described.manifest.content)
    parts = {"config": manifest["config"]} | {
        each["annotations"][layout.TITLE]: each for each in manifest["layers"] if "annotations" in each
    }
    parts[part]["size"] = 1 << 30
    with pytest.raises(LabError) as refused:
        incoming_bundle(Document(IMAGE_MANIFEST, json.dumps(manifest).encode()), "it")
    assert refused.value.id == "bundle-artefact"


def test_an_archive_larger_than_the_bundle_declares_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    blob, before = tmp_path / "blob", bundle.path("images/nginx.tar").read_bytes()
    blob.write_bytes(b"content")
    skeleton = json.dumps({"pieces": [{"digest": digest_of(b"content")}] * 1_000}).encode()
    part = layout.Part("images/nginx.tar", digest_of(skeleton), len(skeleton), is_skeleton=True)
    blobs: dict[str, Content] = {digest_of(b"content"): Span(blob, 0, 7), part.digest: skeleton}
    source = installing.Source("it", blobs.__getitem__, lambda _digest, _found: layout.not_a_bundle_error("it", ""))
    with pytest.raises(LabError) as refused:
        installing._write_all([part], bundle, source, _silent)
    assert refused.value.id == "bundle-artefact"
    assert bundle.path("images/nginx.tar").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (b'"digest":"sha256:', b'"not":"sha256:'),
        (b'"mediaType":', b'"not":'),
        (b'"manifests":[', b'"manifests":[null,'),
        (b'"manifests":[', b'"manifests":' + DEEP),
        (b'"manifests":[', b'"manifests":7,"other":['),
    ],
)
def test_an_invalid_index_is_refused(described: Artefact, words: bytes, instead: bytes) -> None:
    index = with_entries(None, "amd64", described.descriptors)
    assert words in index.content
    with pytest.raises(LabError) as refused:
        choose(Document(IMAGE_INDEX, index.content.replace(words, instead)), "amd64", "it", _nothing)
    assert refused.value.id == "bundle-artefact"


def test_an_index_with_unusual_entries_of_other_tools_is_accepted(described: Artefact) -> None:
    index = with_entries(None, "amd64", described.descriptors).content
    for instead in (b'"platform":null', b'"platform":7', b'"other":{}'):
        changed = with_entries(index.replace(b'"platform":{"architecture":"amd64","os":"linux"}', instead), "arm64", [])
        assert choose(changed, "amd64", "it", _nothing) == described.manifest.digest


@pytest.mark.parametrize(
    "config",
    [
        b'{"schema":1e999,"bundle_schema":2,"id":"it","architecture":"amd64"}',
        b'{"schema":1,"bundle_schema":2,"id":"it.lock","architecture":"amd64"}',
        b'{"schema":1,"bundle_schema":2,"id":"it.partial","architecture":"amd64"}',
        b'{"schema":1,"bundle_schema":2,"id":"../it","architecture":"amd64"}',
        b'{"schema":1,"bundle_schema":2}',
        DEEP,
    ],
)
def test_an_invalid_config_is_refused(config: bytes) -> None:
    with pytest.raises(LabError) as refused:
        layout.identity(config, "amd64", "it")
    assert refused.value.id == "bundle-artefact"


@pytest.mark.parametrize("description", [b"date: 2026-99-99", b"[" * 2000, b"schema: 2", b"\xff", b""])
def test_an_invalid_description_leaves_nothing(bundle: Bundle, tmp_path: Path, description: bytes) -> None:
    (bundle.folder / "bundle.yaml").write_bytes(description)
    with pytest.raises(LabError) as refused:
        bundle_file.import_bundle(_export(bundle, tmp_path / "a"), "amd64", tmp_path / "cache", _silent)
    assert refused.value.id in {"bundle-unreadable", "bundle-schema"}
    assert [path.name for path in (tmp_path / "cache/bundles").iterdir()] == [f"{bundle.id}.lock"]


def test_leftovers_of_a_killed_export_are_removed(bundle: Bundle, tmp_path: Path) -> None:
    names = (".bundle.tar.labctl-0", ".bundle.tar.labctl-1", ".other.tar.labctl-0")
    left, running, other = (tmp_path / name for name in names)
    for path in (left, running, other):
        path.write_bytes(b"")
    with running.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        _export(bundle, tmp_path)
    assert [path.exists() for path in (left, running, other)] == [False, True, True]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_a_file_is_copied_where_hard_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    blob = tmp_path / "blob"
    blob.write_bytes(b"content")
    source = installing.Source(
        "it",
        lambda _digest: Span(blob, 0, 7),
        lambda _digest, _found: layout.not_a_bundle_error("it", ""),
        may_link=True,
    )
    part = layout.Part("bin/it", digest_of(b"content"), 7, is_skeleton=False)

    assert installing._write(part, tmp_path / "it", source) == part.digest
    assert (tmp_path / "it").read_bytes() == b"content"


def test_an_index_without_a_bundle_is_refused() -> None:
    with pytest.raises(LabError) as refused:
        choose(Document(IMAGE_INDEX, b'{"manifests": []}'), "amd64", "it", _nothing)
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
def test_foreign_images_are_distinguished_from_labctls(media_type: str, entries: list[Any], expected: bool) -> None:  # noqa: FBT001 - a table's
    document = serialise(media_type, {"manifests": entries})
    assert holds_image(document, "labctl.local/nginx:1@sha256:0") is expected


@pytest.mark.parametrize(
    ("identity", "is_used"),
    [
        ("source-failing", True),
        ("proxy-unreachable", True),
        ("source-silent", True),
        ("rate-limited", True),
        ("login-refused", False),
    ],
)
def test_a_pulled_bundle_is_used_only_while_the_registry_fails(
    bundle: Bundle,
    tmp_path: Path,
    identity: str,
    is_used: bool,  # noqa: FBT001 - a table's
) -> None:
    def fail(_reference: Reference) -> None:
        raise MissingError("away", id=identity)

    bundle_file.import_bundle(_export(bundle, tmp_path / "a"), "amd64", tmp_path, _silent)
    reference, registry = parse("reg.test/lab:1"), SimpleNamespace(manifest=fail)
    references.record_pulled(reference, references.PulledReference("sha256:0", bundle.id), tmp_path)
    pull = partial(pulling.pull, reference, registry, "amd64", tmp_path, _silent, may_move=False)  # type: ignore[arg-type]

    if is_used:
        assert pull(needs_registry=False).bundle.id == bundle.id
    for needs_registry in (True, is_used):
        with pytest.raises(LabError) as failed:
            pull(needs_registry=needs_registry)
        assert failed.value.id == identity
