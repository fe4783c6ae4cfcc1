"""Images from Docker, a fake program on PATH, and from a registry, a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import Watched
from fault_server import serving

from labctl.bundle.images import write_archive
from labctl.host import locks
from labctl.images import archive
from labctl.images import sources as module
from labctl.images.sources import Sources
from labctl.images.store import LoadedImages
from labctl.model.errors import LabError
from labctl.transfer.mirrors import Mirrors
from labctl.transfer.registry import Registry
from labctl.transfer.store import BlobStore

API = "ghcr.example/team/api:2"
DOCKER = """\
#!/bin/sh
case "$2 $5" in
  "inspect shop:1" | "inspect shop" | "inspect 5aa5") echo sha256:5aa5a5a5 ;;
  inspect*) echo "Error response from daemon: No such image: $5" >&2; exit 1 ;;
  "save shop:1" | "save shop:latest") exec cp "$SHOP" "$4" ;;
  *) echo "Error response from daemon: unexpected $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    """Sources whose registry has one image, for amd64 and without an index."""
    with (
        archive.open_archive(_archive(tmp_path / "api.tar", "api:2"), tmp_path / "scratch") as opened,
        serving() as server,
    ):
        (archived,) = opened.images("amd64")
        for blob in archived.image.blobs:
            opened.extract(archived, blob, tmp_path / "blob")
            server.put(f"/v2/team/api/blobs/{blob.digest}", (tmp_path / "blob").read_bytes())
        for name in ("2", archived.image.digest):
            server.put(f"/v2/team/api/manifests/{name}", archived.image.manifest, archived.image.media_type)
        registry = Registry(Mirrors({"ghcr.example": server.url, "docker.io": server.url}), Watched().report)
        cache = BlobStore(tmp_path / "cache")
        yield Sources(LoadedImages(tmp_path / "images"), "amd64", registry, cache, Watched().report)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts a `docker` with a script first on PATH."""

    def put(script: str) -> None:
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(script.replace("$SHOP", str(_archive(tmp_path / "shop.tar", "shop:1"))))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return put


def _archive(path: Path, name: str) -> Path:
    layer = path.with_name("layer")
    layer.write_text(name)
    write_archive(path, reference=name, architecture="amd64", config={}, layers=[layer])
    return path


def _layer(sources: Sources, word: str) -> tuple[str, str]:
    (image,) = sources.read(word)
    return image.reference, sources.store.blobs.path(image.blobs[-1].digest).read_text()


def test_an_image_comes_from_docker_or_else_from_the_registry(sources: Sources, docker: Callable[[str], None]) -> None:
    docker(DOCKER)

    assert _layer(sources, "shop:1") == ("docker.io/library/shop:1", "shop:1")
    assert _layer(sources, API) == (API, "api:2")
    assert _layer(sources, "shop")[1] == "shop:1"  # without a tag, labctl asks Docker for `latest`


@pytest.mark.parametrize(
    ("script", "word", "identity", "texts"),
    [
        (DOCKER, "other:1", "image-not-found", ("Docker has no image other:1", "docker.io/library/other")),
        (DOCKER, f"{API}3", "image-not-found", (f"Docker has no image {API}3", "ghcr.example/team/api does")),
        (DOCKER, "5aa5", "image-unnamed", ("5aa5",)),
        (
            "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n",
            "other:1",
            "image-not-found",
            ("Cannot connect to the Docker daemon", "docker.io/library/other"),
        ),
        ("#!/bin/sh\n[ $2 = inspect ] || { echo 'no space left on device'; exit 1; }\n", "shop:1", "disk-full", ()),
    ],
)
def test_an_image_that_neither_has_is_an_error(
    sources: Sources, docker: Callable[[str], None], script: str, word: str, identity: str, texts: tuple[str, ...]
) -> None:
    docker(script)

    with pytest.raises(LabError) as raised:
        sources.read(word)

    assert raised.value.id == identity
    assert [text for text in texts if text not in raised.value.message] == []
    assert sources.store.images() == ()


@pytest.mark.parametrize("part", [0, -1], ids=["config", "layer"])
def test_cached_blobs_are_verified_before_they_are_loaded(
    sources: Sources, docker: Callable[[str], None], part: int
) -> None:
    docker(DOCKER)
    (image,) = sources.read(API)
    damaged = sources.cache.path(image.blobs[part].digest)
    damaged.unlink()  # a new file, because this one is a hard link of the lab's
    damaged.write_bytes(b"damaged")
    again = replace(sources, store=LoadedImages(sources.store.folder / "again"))

    with pytest.raises(LabError) as raised:
        again.read(API)

    assert raised.value.id == "blob-damaged"
    assert _layer(again, API) == (API, "api:2")


def test_an_image_cannot_be_fetched_while_blobs_are_removed(
    sources: Sources, docker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    docker(DOCKER)
    monkeypatch.setattr(module, "OTHER_SECONDS", 0.3)

    with locks.exclusive(sources.cache.folder.with_suffix(".lock"), Watched().report, timeout=1):
        with pytest.raises(LabError) as raised:
            sources.read(API)
        assert raised.value.id == "locked"
    assert _layer(sources, API) == (API, "api:2")


def test_an_image_of_docker_for_another_architecture_is_refused(
    sources: Sources, docker: Callable[[str], None]
) -> None:
    docker(DOCKER)

    with pytest.raises(LabError) as raised:
        replace(sources, architecture="arm64").read("shop:1")

    assert (raised.value.id, raised.value.exit_code) == ("architecture-missing", 3)
    assert "linux/amd64" in raised.value.message
    assert sources.store.images() == ()


def test_an_image_of_a_registry_for_another_architecture_is_refused(
    sources: Sources, docker: Callable[[str], None]
) -> None:
    docker(DOCKER)

    with pytest.raises(LabError) as raised:
        replace(sources, architecture="arm64").read(API)

    assert raised.value.id == "architecture-missing"
    assert "linux/amd64" in raised.value.message
    assert json.dumps(raised.value.details).count("Docker") == 1
