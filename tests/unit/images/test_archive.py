"""The image that is selected from an archive of any format, and the errors for other files."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from labctl.images import archive
from labctl.model.errors import LabError
from labctl.transfer.documents import IMAGE_INDEX
from labctl.transfer.documents import IMAGE_NAME as NAME
from labctl.transfer.documents import REF_NAME as TAG

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Files = dict[str, bytes]
SHOP = "docker.io/library/shop:1"


def _layout(*entries: Mapping[str, Any], architectures: Sequence[str] = ("amd64",), nested: bool = False) -> Files:
    """Return an OCI image layout with an image for each architecture, below a nested index if `nested`."""
    files: Files = {"oci-layout": b"{}"}
    manifests = []
    for architecture in architectures:
        config = _blob(files, json.dumps({"architecture": architecture, "os": "linux"}).encode())
        layer = _blob(files, f"layer for {architecture}".encode())
        manifests.append(_blob(files, json.dumps({"config": config, "layers": [layer, layer]}).encode()))
    if nested:
        listed = [
            {**each, "platform": {"os": "linux", "architecture": architecture}}
            for each, architecture in zip(manifests, architectures, strict=True)
        ]
        attestation = {
            "digest": f"sha256:{'0' * 64}",
            "size": 1,
            "platform": {"os": "unknown", "architecture": "unknown"},
        }
        manifests = [_blob(files, json.dumps({"manifests": [*listed, attestation]}).encode())]
    index = [{**each, "annotations": dict(entry)} for each in manifests for entry in entries]
    files["index.json"] = json.dumps({"manifests": index}).encode()
    return files


def _docker_save(names: Sequence[str] | None, architecture: str = "amd64") -> Files:
    """Return an archive of `docker save` before version 25."""
    layer = b"a layer"
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {"architecture": architecture, "os": "linux", "rootfs": {"diff_ids": [diff_id]}}
    entry = {"Config": "c0.json", "RepoTags": names, "Layers": ["1/layer.tar"]}
    return {
        "c0.json": json.dumps(config).encode(),
        "1/layer.tar": layer,
        "manifest.json": json.dumps([entry]).encode(),
    }


def _blob(files: Files, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    files[f"blobs/sha256/{digest}"] = content
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _tar(files: Files, links: Mapping[str, tuple[bytes, str]] | None = None) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, (kind, target) in (links or {}).items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return written.getvalue()


def _with_linked_layer(target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    """Return an archive of `docker save` before version 25, with a shared layer as a link."""
    files = {**_docker_save(["shop:1"]), "0/layer.tar": b"a layer"}
    del files["1/layer.tar"]
    return _tar(files, {"1/layer.tar": (kind, target)})


def _with_claimed_size(size: int) -> bytes:
    """Return an archive whose first member claims this size."""
    member = tarfile.TarInfo("index.json")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + _tar(_docker_save(["shop:1"]))


def _with_wrong_platform() -> Files:
    """Return a layout whose index lists an image for arm64 as one for amd64."""
    files = _layout({NAME: SHOP}, architectures=("arm64",))
    index = json.loads(files["index.json"])
    index["manifests"][0]["platform"] = {"os": "linux", "architecture": "amd64"}
    return {**files, "index.json": json.dumps(index).encode()}


def _index_of_itself() -> Files:
    """Return an index that lists itself."""
    digest = "sha256:" + "0" * 64
    index = {"manifests": [{"digest": digest, "mediaType": IMAGE_INDEX, "annotations": {NAME: SHOP}}]}
    return dict.fromkeys(("index.json", "blobs/sha256/" + "0" * 64), json.dumps(index).encode())


def _nested(depth: int) -> Files:
    """Return an image below this many nested indexes."""
    files = _layout({NAME: SHOP})
    for _ in range(depth):
        index = _blob(files, files["index.json"])
        listed = [{**index, "mediaType": IMAGE_INDEX, "annotations": {NAME: SHOP}}]
        files["index.json"] = json.dumps({"manifests": listed}).encode()
    return files


def _read(folder: Path, content: bytes) -> dict[str, str]:
    """Return the content of each image's last layer, by the image's name."""
    path = folder / "image.tar"
    path.write_bytes(content)
    read: dict[str, str] = {}
    with archive.open_archive(path, folder / "scratch") as opened:
        for each in opened.images("amd64"):
            for blob in each.image.blobs:
                opened.extract(each, blob, folder / "blob")
            read |= dict.fromkeys(each.names, (folder / "blob").read_text())
    return read


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize(
    ("files", "names"),
    [
        (_layout({NAME: SHOP, TAG: "1"}), [SHOP]),
        (_layout({NAME: SHOP}, {NAME: "shop:2"}), [SHOP, "shop:2"]),
        (_layout({TAG: "localhost/shop:1"}), ["localhost/shop:1"]),
        (_layout({NAME: SHOP}, architectures=("arm64", "amd64")), [SHOP]),
        (_layout({NAME: SHOP}, architectures=("arm64", "amd64"), nested=True), [SHOP]),
        (_nested(4), [SHOP]),
        (_docker_save(["shop:1", "shop:2"]), ["shop:1", "shop:2"]),
        ({**_layout({TAG: "1"}), **_docker_save(["shop:1"])}, ["shop:1"]),
    ],
    ids=["one", "two names", "podman", "flat", "index", "deep", "docker", "docker beside a layout"],
)
def test_the_image_of_the_architecture_is_selected(
    tmp_path: Path, files: Files, names: list[str], pack: Callable[[bytes], bytes]
) -> None:
    content = "a layer" if "c0.json" in files else "layer for amd64"

    assert _read(tmp_path, pack(_tar(files))) == dict.fromkeys(names, content)


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.SYMTYPE, "../0/layer.tar"), (tarfile.LNKTYPE, "0/layer.tar")], ids=["soft", "hard"]
)
def test_a_layer_can_be_a_link_to_another(tmp_path: Path, kind: bytes, target: str) -> None:
    assert _read(tmp_path, _with_linked_layer(target, kind)) == {"shop:1": "a layer"}


def _without(files: Files, content: bytes) -> Files:
    return {name: each for name, each in files.items() if content not in each or name.endswith(".json")}


@pytest.mark.parametrize(
    ("content", "identity", "expected"),
    [
        (b"", "archive-unreadable", ""),
        (b"no archive at all", "archive-unreadable", ""),
        (b"\x1f\x8b nor gzip", "archive-damaged", ""),
        (_tar({"readme": b"-"}), "archive-unreadable", "index.json"),
        (_tar({"index.json": b"[]"}), "archive-unreadable", ""),
        (_tar({"index.json": b"{"}), "archive-unreadable", ""),
        (_tar({"manifest.json": b'[{"RepoTags": ["a:1"]}]'}), "archive-unreadable", "Config"),
        (_tar(_docker_save(["shop:1"]))[:1500], "archive-damaged", ""),
        (gzip.compress(_tar(_docker_save(["shop:1"])))[:-20], "archive-damaged", ""),
        (zstd.compress(_tar(_docker_save(["shop:1"])))[:-20], "archive-damaged", ""),
        (_tar({**_docker_save(["shop:1"]), "1/layer.tar": b"another"}), "archive-damaged", "1/layer.tar"),
        (_tar(_without(_layout({NAME: SHOP}), b"layer for")), "archive-damaged", SHOP),
        (_tar(_layout({NAME: SHOP}) | {"blobs/sha256/" + "0" * 64: b""}).replace(b"layer for", b"flipped!!"), "archive-damaged", ""),
        (b"BZh nor bzip2", "archive-damaged", ""),
        (b"\xfd7zXZ nor xz", "archive-damaged", ""),
        (_with_linked_layer("../none/layer.tar"), "archive-damaged", "1/layer.tar"),
        (_with_linked_layer("layer.tar"), "archive-damaged", "1/layer.tar"),
        (_with_linked_layer("../../../etc/passwd"), "archive-damaged", "1/layer.tar"),
        (_with_linked_layer("/dev/zero"), "archive-damaged", "1/layer.tar"),
        (_with_linked_layer("", tarfile.FIFOTYPE), "archive-damaged", "1/layer.tar"),
        (_tar(_index_of_itself()), "archive-damaged", "sha256:000"),
        (_tar(_nested(40)), "archive-unreadable", "nested"),
        (_tar({"index.json": b"[" * 200_000}), "archive-unreadable", ""),
        (_tar({"manifest.json": b'[{"Config": ' * 100_000}), "archive-unreadable", ""),
        (_with_claimed_size(1 << 62), "archive-damaged", ""),
        (_with_claimed_size(1 << 70), "archive-damaged", ""),
        (_with_claimed_size(1 << 40), "archive-damaged", ""),
        (_tar({**_docker_save(["shop:1"]), "manifest.json": b"7"}), "archive-unreadable", ""),
        (_tar(_docker_save([7])), "archive-unreadable", "7"),  # type: ignore[list-item]
        (_tar(_docker_save(None)), "image-unnamed", ""),
        (_tar(_layout({TAG: "1"})), "image-unnamed", ""),
        (_tar(_docker_save(["shop:1"], "arm64")), "architecture-missing", "linux/arm64"),
        (_tar(_with_wrong_platform()), "architecture-missing", "linux/arm64"),
        (_tar(_layout({NAME: SHOP}, architectures=("s390x", "arm64"), nested=True)), "architecture-missing", "linux/arm64, linux/s390x"),
    ],
)  # fmt: skip
def test_an_unusable_archive_is_refused_with_a_reason(
    tmp_path: Path, content: bytes, identity: str, expected: str
) -> None:
    with pytest.raises(LabError) as raised:
        _read(tmp_path, content)

    assert raised.value.id == identity
    assert expected in raised.value.message


def test_the_digest_of_a_docker_save_image_is_stable(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    digests = set()
    for names in (["shop:1"], ["shop:2"]):
        path.write_bytes(_tar(_docker_save(names)))
        with archive.open_archive(path, tmp_path / "scratch") as opened:
            digests |= {each.image.digest for each in opened.images("amd64")}

    assert len(digests) == 1


def test_a_compressed_archive_without_a_scratch_folder_is_refused_unchanged(tmp_path: Path) -> None:
    path, content = tmp_path / "image.tar", gzip.compress(_tar(_docker_save(["shop:1"])))
    path.write_bytes(content)

    with pytest.raises(LabError) as raised, archive.open_archive(path):
        pass

    assert (raised.value.id, path.read_bytes()) == ("archive-unreadable", content)
