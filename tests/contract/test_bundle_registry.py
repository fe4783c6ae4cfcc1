"""Push and pull of a bundle through Debian's docker-registry, with TLS and a password, and with failures on the way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import packages
import pytest
import travelling
from docker_registry import DockerRegistry, log_in, running
from wire import Wire, relayed

from labctl.bundle import checksums
from labctl.bundle.format import Bundle, load, write
from labctl.bundle.layout import ARTIFACT, SKELETON, Artefact, artefact
from labctl.bundle.oci import file
from labctl.bundle.oci import pull as pulling
from labctl.bundle.oci.pull import PullResult
from labctl.bundle.oci.push import PushResult, push
from labctl.bundle.spans import size_of
from labctl.host import processor
from labctl.model.errors import LabError
from labctl.transfer import fetch as fetching
from labctl.transfer import mirrors, reference, retries
from labctl.transfer.documents import IMAGE_INDEX, serialise
from labctl.transfer.registry import Registry
from labctl.transfer.store import BlobStore

pytestmark = pytest.mark.root  # installs docker-registry if it is missing
LABCTL = Path(sys.executable).with_name("labctl")
TRAEFIK = "docker.io/library/traefik:2"
MANIFESTS = 100_000
"""Upper limit of the bytes in addition to blobs: manifests, requests and TLS."""


def _silent(_text: str) -> None:
    pass


@dataclass
class ClassRoom:
    """A teacher's and a student's cache, and a registry between them."""

    registry: DockerRegistry
    wire: Wire
    """The connection to the registry."""
    folder: Path
    tag: str = "1.37"
    bundles: dict[str, Artefact] = field(default_factory=dict)

    @property
    def reference(self) -> reference.Reference:
        return reference.parse(f"{self.wire.host}/{self.folder.name.lower()}/k8s:{self.tag}")

    @property
    def cache(self) -> Path:
        return self.folder / "student"

    def bundle(self, architecture: str = "amd64", shop: str = "shop") -> Bundle:
        return travelling.bundle(self.folder / f"built-{shop}", architecture, shop)

    def push(self, bundle: Bundle) -> PushResult:
        self.wire.reset()
        return push(artefact(bundle), self.reference, Registry(mirrors.Mirrors(), _silent), self.folder, _silent)

    def pull(self, architecture: str = "amd64", *, may_move: bool = True, needs_registry: bool = True) -> PullResult:
        self.wire.reset()
        client = Registry(mirrors.Mirrors(), _silent)
        options = {"may_move": may_move, "needs_registry": needs_registry}
        return pulling.pull(self.reference, client, architecture, self.cache, _silent, **options)

    def cached(self) -> int:
        """Return the number of bytes in the student's cache of blobs."""
        return sum(path.stat().st_size for path in (self.cache / "blobs").rglob("*") if path.is_file())

    def installed(self) -> list[str]:
        return [path.name for path in (self.cache / "bundles").glob("[!.]*") if path.is_dir()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def wire(served: DockerRegistry) -> Iterator[Wire]:
    with relayed(served.port) as relay:
        yield relay


@pytest.fixture
def room(served: DockerRegistry, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClassRoom:
    log_in(tmp_path / "docker", wire.host)
    wire.reset()
    monkeypatch.setattr(retries, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # no power cut is tested
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("SSL_CERT_FILE", str(served.certificate))
    return ClassRoom(served, wire, tmp_path)


def _failure(act: Callable[[], object]) -> LabError:
    with pytest.raises(LabError) as failed:
        act()
    assert failed.value.hint
    return failed.value


def _error_id(act: Callable[[], object]) -> str:
    return _failure(act).id


def test_the_pulled_bundle_equals_the_pushed_one(room: ClassRoom) -> None:
    built = room.bundle()
    whole = sum(map(size_of, artefact(built).blobs.values()))

    first = room.push(built)
    assert whole <= room.wire.sent < whole + MANIFESTS
    again = room.push(built)
    assert (first.changed, again.changed, again.moved) == (True, False, 0)
    assert room.wire.sent < MANIFESTS

    arrived = room.pull()
    assert travelling.same_files(arrived.bundle.folder, built.folder)
    checksums.verify(arrived.bundle, room.cache, _silent)
    assert whole <= room.wire.received < whole + MANIFESTS
    assert not room.pull().changed
    assert room.wire.received < MANIFESTS
    assert room.installed() == [built.id]


def test_only_changed_blobs_are_pushed_and_pulled(room: ClassRoom) -> None:
    built, changed = room.bundle(), room.bundle(shop="stall")
    before = room.push(built)
    room.pull()
    moved = room.push(changed)
    archive = 30_000
    assert moved.moved < travelling.LAYER + archive + MANIFESTS
    assert room.wire.sent < moved.moved + MANIFESTS

    assert _error_id(lambda: room.pull(may_move=False)) == "reference-moved"
    with pytest.raises(LabError) as refused:
        room.pull()
    assert refused.value.id == "bundle-differs"
    for folder in (room.cache / "bundles").glob("kubernetes-*/"):
        subprocess.run(["rm", "-r", folder], check=True)
    arrived = room.pull()
    assert arrived.digest == moved.digest != before.digest
    assert arrived.fetched <= moved.moved
    assert travelling.same_files(arrived.bundle.folder, changed.folder)


def test_one_reference_serves_two_architectures(room: ClassRoom) -> None:
    amd64, arm64 = room.bundle("amd64"), room.bundle("arm64")
    room.push(amd64)
    assert _error_id(lambda: room.pull("arm64")) == "bundle-architecture"
    room.push(arm64)
    for built in (arm64, amd64):
        arrived = room.pull(built.architecture)
        assert travelling.same_files(arrived.bundle.folder, built.folder)


def test_a_bundle_is_pulled_from_a_nested_index(room: ClassRoom) -> None:
    built = {name: room.bundle(name) for name in ("amd64", "arm64")}
    client = Registry(mirrors.Mirrors(), _silent)
    nested = []
    for room.tag, bundle in built.items():
        room.push(bundle)
        nested.append(client.manifest(room.reference).descriptor())
    room.tag = "all"
    client.put_manifest(room.reference, serialise(IMAGE_INDEX, {"manifests": nested}))

    for name, bundle in built.items():
        assert travelling.same_files(room.pull(name).bundle.folder, bundle.folder)


def test_a_push_into_a_nested_index_keeps_its_entries_if_one_has_a_bundle(room: ClassRoom) -> None:
    built = {name: room.bundle(name) for name in ("amd64", "arm64")}
    client = Registry(mirrors.Mirrors(), _silent)

    def nest(tag: str) -> dict[str, object]:
        """Write an index of the index that the tag names; return the entry in it."""
        room.tag = tag
        entry = client.manifest(room.reference).descriptor()
        room.tag = f"index-of-{tag}"
        client.put_manifest(room.reference, serialise(IMAGE_INDEX, {"manifests": [entry]}))
        return entry

    room.tag = "arm64"
    room.push(built["arm64"])
    bundle_entry = nest("arm64")
    room.push(built["amd64"])
    assert bundle_entry in json.loads(client.manifest(room.reference).content)["manifests"]
    for name, bundle in built.items():
        assert travelling.same_files(room.pull(name).bundle.folder, bundle.folder)

    nest("nginx-1.26.3")
    assert _error_id(lambda: room.push(built["amd64"])) == "reference-taken"


def test_the_images_of_a_bundle_have_tags_in_its_repository(room: ClassRoom) -> None:
    room.push(room.bundle("arm64"))
    room.push(room.bundle("amd64"))
    client = Registry(mirrors.Mirrors(), _silent)
    with pytest.raises(LabError) as refused:
        client.image(room.reference, "amd64")
    assert (refused.value.id, ARTIFACT in refused.value.message) == ("manifest-invalid", True)
    digests = set()
    for architecture in ("amd64", "arm64"):
        for tag, layers in {"nginx-1.26.3": 2, "saved-2": 1}.items():
            named = reference.parse(str(room.reference).replace(":1.37", f":{tag}"))
            image = client.image(named, architecture)
            assert len(image.layers) == layers
            digests.add(image.digest)
    assert len(digests) == 4  # each architecture has an image of its own under both tags


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_pull_after_a_lost_connection_fetches_only_what_is_missing(room: ClassRoom, share: float) -> None:
    built = room.bundle()
    whole = sum(map(size_of, artefact(built).blobs.values()))
    room.push(built)
    room.wire.left = int(whole * share)
    wire = room.wire
    wire.reset = lambda: None  # type: ignore[method-assign]
    try:
        identity = _error_id(room.pull)
    finally:
        del wire.reset
    assert identity in {"source-cut-off", "source-unreachable"}
    assert room.installed() == []
    cached = room.cached()
    arrived = room.pull()
    assert room.wire.received < whole - cached + MANIFESTS
    assert travelling.same_files(arrived.bundle.folder, built.folder)


def test_a_push_resumes_after_a_lost_connection(room: ClassRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    built = room.bundle()
    whole = sum(map(size_of, artefact(built).blobs.values()))
    original, cuts = room.wire.count, list[int]()

    def count(size: int, *, is_sent: bool) -> bool:
        passes = original(size, is_sent=is_sent)
        if not passes:
            room.wire.left = None
            cuts.append(size)
        return passes

    room.wire.reset()
    room.wire.left = int(whole * 0.6)
    with monkeypatch.context() as patch:
        patch.setattr(room.wire, "count", count)
        client = Registry(mirrors.Mirrors(), _silent)
        assert push(artefact(built), room.reference, client, room.folder, _silent).moved == whole
    assert (len(cuts), room.wire.sent < 2 * whole + MANIFESTS) == (1, True)
    assert travelling.same_files(room.pull().bundle.folder, built.folder)


def test_a_push_after_a_registry_crash_skips_uploaded_blobs(room: ClassRoom) -> None:
    built = room.bundle()
    whole = sum(map(size_of, artefact(built).blobs.values()))
    room.wire.reset()
    room.wire.left = int(whole * 0.8)
    original = room.wire.count

    def count(size: int, *, is_sent: bool) -> bool:
        passes = original(size, is_sent=is_sent)
        if not passes and room.registry.is_running:
            room.registry.kill()
        return passes

    room.wire.count = count  # type: ignore[method-assign]
    try:
        client = Registry(mirrors.Mirrors(), _silent)
        identity = _error_id(lambda: push(artefact(built), room.reference, client, room.folder, _silent))
    finally:
        del room.wire.count
        room.registry.kill()
        room.registry.start()
    assert identity in {"source-cut-off", "source-unreachable"}
    assert _error_id(room.pull) == "tag-not-found"
    assert 0 < room.push(built).moved < whole
    assert travelling.same_files(room.pull().bundle.folder, built.folder)


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_damage_in_the_registry_is_detected_and_nothing_is_installed(room: ClassRoom, damage: str) -> None:
    built = room.bundle()
    whole = sum(map(size_of, artefact(built).blobs.values()))
    room.push(built)
    largest = max(artefact(built).blobs.items(), key=lambda each: size_of(each[1]))[0]
    blob = room.registry.blob(largest)
    good = blob.read_bytes()
    bad = {"flipped": good[:-1] + bytes([good[-1] ^ 1]), "short": good[: len(good) // 2], "gone": b""}[damage]
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes(bad)
    try:
        assert _error_id(room.pull) in {"digest-mismatch", "size-mismatch", "source-cut-off", "source-not-found"}
        assert room.installed() == []
    finally:
        blob.write_bytes(good)
    cached = room.cached()
    assert 0 < cached < whole
    assert travelling.same_files(room.pull().bundle.folder, built.folder)
    assert room.wire.received < whole - cached + MANIFESTS


def test_a_blob_that_was_damaged_in_the_cache_is_fetched_again(room: ClassRoom) -> None:
    built = room.bundle()
    room.push(built)
    arrived = room.pull()
    arrived.bundle.path("base/node.tar").write_bytes(b"damaged")  # the same file as the blob's
    assert _error_id(room.pull) == "blob-damaged"
    assert travelling.same_files(room.pull().bundle.folder, built.folder)


@pytest.mark.parametrize("kind", ["config", "skeleton"])
def test_a_document_that_was_damaged_in_the_cache_is_fetched_again(room: ClassRoom, kind: str) -> None:
    built = room.bundle()
    room.push(built)
    arrived = room.pull()
    manifest = json.loads(artefact(built).manifest.content)
    skeletons = [layer for layer in manifest["layers"] if layer["mediaType"] == SKELETON]
    digest = (manifest["config"] if kind == "config" else skeletons[0])["digest"]
    arrived.bundle.path("images/nginx.tar").unlink()
    BlobStore(room.cache / "blobs").path(digest).write_bytes(b"{}")
    assert _error_id(room.pull) == "blob-damaged"
    assert travelling.same_files(room.pull().bundle.folder, built.folder)


def test_a_wrong_password_and_a_tag_of_another_artefact_are_rejected(room: ClassRoom, tmp_path: Path) -> None:
    built = room.bundle()
    log_in(tmp_path / "docker", room.wire.host, "wrong")
    assert _error_id(lambda: room.push(built)) == "login-refused"
    log_in(tmp_path / "docker", room.wire.host)
    assert _error_id(room.pull) == "tag-not-found"
    room.push(built)
    (nginx, *_) = artefact(built).images
    room.tag = "taken"
    client = Registry(mirrors.Mirrors(), _silent)
    client.put_manifest(room.reference, nginx.manifest)
    assert _error_id(lambda: room.push(built)) == "reference-taken"
    assert _error_id(room.pull) == "bundle-artefact"


def test_a_pulled_bundle_is_used_while_the_registry_is_unreachable(room: ClassRoom) -> None:
    built = room.bundle()
    room.push(built)
    room.pull()
    room.registry.kill()
    try:
        pulled = room.pull(needs_registry=False)
        assert (pulled.bundle.id, pulled.changed, bool(pulled.note)) == (built.id, False, True)
        assert _error_id(room.pull) in {"source-unreachable", "source-cut-off"}
    finally:
        room.registry.start()


def test_a_full_disk_is_an_error_with_both_sizes_and_what_has_arrived_is_kept(
    room: ClassRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = room.bundle()
    whole = sum(map(size_of, artefact(built).blobs.values()))
    room.push(built)
    disk = room.folder / "disk"
    disk.mkdir()
    room.cache.symlink_to(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={whole // 2}", "tmpfs", disk], check=True)
    try:
        before = _failure(room.pull)
        assert room.wire.received < MANIFESTS
        with monkeypatch.context() as patch:
            patch.setattr(pulling, "require_room", lambda *_arguments: None)  # another program fills the disk later
            patch.setattr(fetching, "require_room", lambda *_arguments: None)
            during = _failure(room.pull)
        for failure in (before, during):
            assert failure.id == "disk-full"
            assert len(re.findall(r"\d+ MiB", failure.message)) == 2
            assert str(room.cache) in failure.message
        assert room.installed() == []
        assert not list(disk.rglob(".incoming-*"))

        subprocess.run(["mount", "-o", f"remount,size={4 * whole}", disk], check=True)
        cached = room.cached()
        assert cached > whole // 4
        arrived = room.pull()
        assert room.wire.received < whole - cached + MANIFESTS
        assert travelling.same_files(arrived.bundle.folder, built.folder)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_up_pulls_the_bundle_of_a_reference_once(room: ClassRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--only bundle` ends before anything is created; `up` needs an ingress controller in the bundle."""
    built, changed = (_with_controller(room.bundle(processor.architecture(), shop)) for shop in ("shop", "stall"))
    room.push(built)
    monkeypatch.setenv("XDG_CACHE_HOME", str(room.folder / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(room.folder / "state"))
    monkeypatch.chdir(room.folder)

    announced: list[str] = []

    def up(*options: str) -> dict[str, Any]:
        room.wire.reset()
        words = (str(LABCTL), "-o", "json", "up", "--isolated", "--only", "bundle", *options)
        completed = subprocess.run([*words, "--bundle", f"oci://{room.reference}"], capture_output=True, check=False)
        *events, result = map(json.loads, completed.stdout.splitlines())
        announced[:] = [event["text"] for event in events if built.id in event["text"] and "MiB" in event["text"]]
        error = result["error"] or {"id": None}
        return {"code": completed.returncode, "changed": result["changed"], "error": error["id"]}

    assert up("--offline") == {"code": 3, "changed": False, "error": "bundle-not-pulled"}
    assert up() == {"code": 0, "changed": True, "error": None}
    assert len(announced) == 1
    assert travelling.same_files(room.folder / "cache/labctl/bundles" / built.id, built.folder)
    assert up() == {"code": 0, "changed": False, "error": None}
    assert announced == []
    assert room.wire.received < MANIFESTS
    assert up("--offline") == {"code": 0, "changed": False, "error": None}
    assert room.wire.received == 0
    room.push(changed)
    assert up() == {"code": 3, "changed": False, "error": "reference-moved"}


def _with_controller(built: Bundle) -> Bundle:
    """Return the bundle with one of its images described as that of an ingress controller."""
    images = [replace(each, reference=TRAEFIK) if "saved" in each.archive else each for each in built.images]
    write(replace(built, images=tuple(images)))
    return load(built.folder)


def test_another_tool_reads_the_images_of_a_pushed_and_of_an_exported_bundle(room: ClassRoom) -> None:
    packages.install(("skopeo",), ("skopeo",))
    built = room.bundle()
    room.push(built)
    exported = room.folder / "bundle.tar"
    file.export(artefact(built), exported, _silent)
    registry = f"docker://{str(room.reference).removesuffix(f':{room.tag}')}"
    (room.folder / "ca.crt").symlink_to(room.registry.certificate)
    login = (f"--authfile={room.folder}/docker/config.json", f"--src-cert-dir={room.folder}")

    for image in artefact(built).images:
        for number, source in enumerate((f"{registry}:{image.tag}", f"oci-archive:{exported}:{image.tag}")):
            copy = room.folder / f"{image.tag}-{number}"
            subprocess.run(["skopeo", "--insecure-policy", "copy", *login, source, f"dir:{copy}"], check=True)
            layers = json.loads((copy / "manifest.json").read_bytes())["layers"]
            assert [each["digest"] for each in layers] == [
                each["digest"] for each in json.loads(image.manifest.content)["layers"]
            ]
