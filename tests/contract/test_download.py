"""Downloads of a small bundle from local servers: verification, resuming, pinned digests and errors."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fault_server import Fault, Server, free_port, serving

from labctl.bundle import Bundle, checksums, images, readable_bundles
from labctl.bundle.download import by_engine, tools, ways
from labctl.bundle.download import download as downloading
from labctl.bundle.download import recipe as recipes
from labctl.bundle.download.download import download
from labctl.bundle.download.order import Order
from labctl.bundle.download.recipe import NodeRow
from labctl.bundle.download.ways import Way
from labctl.bundle.unfinished import architecture
from labctl.host import reachable
from labctl.host.paths import BLOBS
from labctl.host.reachable import unreachable_reasons
from labctl.model.errors import LabError, MissingError
from labctl.model.events import Progress
from labctl.transfer import pools, probe, retries
from labctl.transfer.documents import IMAGE_INDEX, IMAGE_MANIFEST
from labctl.transfer.mirrors import Mirrors, parse_mirrors
from labctl.transfer.probe import unreachable

KUBEADM = "#!/bin/sh\nprintf '%s\\n' registry.k8s.io/pause:3.10.2 registry.k8s.io/etcd:3.7.0-0\n"
MANIFEST = "kind: Deployment\nspec: {containers: [{name: a, image: docker.io/library/nginx:1.30.4}]}\n"
RECIPE = {
    "schema": 1,
    "name": "small",
    "versions": {"kubernetes": "1.37.2", "metallb": "0.15.2"},
    "megabytes": 1,
    "minutes": 1,
    "binaries": [
        {"path": f"bin/{name}", "url": f"https://dl.k8s.io/v{{kubernetes}}/{{architecture}}/{name}"}
        for name in ("kubeadm", "kubelet", "kubectl")
    ],
    "images": [
        {"reference": "registry.k8s.io/pause:3.10.2", "runs_on": "node", "phase": "sandbox"},
        {"reference": "registry.k8s.io/etcd:3.7.0-0", "runs_on": "control-plane", "phase": "control-plane"},
        {"reference": "docker.io/library/nginx:1.30.4", "runs_on": "node", "phase": "addons"},
    ],
    "web": "docker.io/library/nginx",
    "manifests": [{"path": "manifests/metallb-native.yaml", "url": "https://raw.githubusercontent.com/metallb.yaml"}],
    "node": {"suite": "trixie"},
}


KUBELET = f"/v1.37.2/{architecture()}/kubelet"
ETCD = "/v2/etcd/manifests/3.7.0-0"
ETCD_LAYER = f"/v2/etcd/blobs/sha256:{hashlib.sha256(b'layer of etcd').hexdigest()}"


@pytest.fixture(autouse=True)
def _enough_disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)


class SmallTools:
    """Fakes of the slow tools, which can fail on request; kubeadm is really run."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.way = ways.MMDEBSTRAP
        self.images_of_kubeadm = tools.images_of_kubeadm

    def way_to_make_node(self, _architecture: str) -> Way:
        return self.way

    def make_node(self, _node: NodeRow, _architecture: str, _mirrors: Mirrors, folder: Path) -> None:
        if self.error:
            raise self.error
        base = folder / by_engine.BASE
        content = images.reference_of(base) if base.exists() else ""
        for name in ("node.tar", "node.packages"):
            (folder / name).write_text(content, encoding="utf-8")

    def make_detector(self, _architecture: str, _cache: Path, _report: Progress, _folder: Path) -> bool:
        return False


@dataclass
class Upstream:
    """Upstream's files and registries, on one web server."""

    server: Server
    cache: Path
    document: dict[str, Any]
    tools: SmallTools

    def publish(self, path: str, content: str, *, checksum: bool = False) -> None:
        """Publish a file, and optionally its checksum."""
        digest = self.server.put(f"/{path}", content.encode())
        if checksum:
            self.publish(f"{path}.sha256", digest.removeprefix("sha256:"))

    def publish_image(self, repository: str, tag: str, content: str, machine: str = "") -> str:
        """Publish an image index with one image, whose one layer has this content; return the index's digest."""
        machine = machine or architecture()
        layer = {"mediaType": "x", "size": len(content), "digest": self._blob(repository, content.encode())}
        settings = json.dumps({"architecture": machine, "os": "linux", "of": content}).encode()
        config = {"mediaType": "x", "size": len(settings), "digest": self._blob(repository, settings)}
        manifest = json.dumps({"mediaType": IMAGE_MANIFEST, "config": config, "layers": [layer]}).encode()
        own = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        listed = {"digest": own, "size": len(manifest), "platform": {"os": "linux", "architecture": machine}}
        index = json.dumps({"mediaType": IMAGE_INDEX, "manifests": [listed]}).encode()
        self.server.put(f"/v2/{repository}/manifests/{own}", manifest, IMAGE_MANIFEST)
        digest = self.server.put(f"/v2/{repository}/manifests/{tag}", index, IMAGE_INDEX)
        self.server.put(f"/v2/{repository}/manifests/{digest}", index, IMAGE_INDEX)
        return digest

    def download(self, kubernetes: str = "", report: Progress = lambda _text: None) -> Bundle:
        """Download the bundle of the recipe in `document`."""
        file = self.cache / "recipe.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(self.document), encoding="utf-8")
        table = dict.fromkeys(
            ("registry.k8s.io", "docker.io", "dl.k8s.io", "raw.githubusercontent.com", "deb.debian.org"),
            self.server.url,
        )
        return download(self.cache, report, Order(recipes.load(file), parse_mirrors(table, ""), kubernetes), self.tools)

    def paths(self) -> list[str]:
        """Return the requested paths."""
        return [request.path for request in self.server.requests]

    def contents(self) -> dict[str, bytes]:
        """Return the files whose digests are known before they are fetched: blobs of images, and programs."""
        programs = ("/kubeadm", "/kubelet", "/kubectl")
        return {path: each for path, each in self.server.files.items() if "/blobs/" in path or path.endswith(programs)}

    def missing(self) -> dict[str, int]:
        """Return the number of bytes of these files that the cache lacks, by path."""
        cached = {path.name: path.stat().st_size for path in (self.cache / BLOBS).rglob("*") if path.is_file()}
        names = {path: hashlib.sha256(each).hexdigest() for path, each in self.contents().items()}
        lacking = {path: len(self.server.files[path]) - cached.get(name, 0) for path, name in names.items()}
        return {path: size for path, size in lacking.items() if size}

    def _blob(self, repository: str, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return self.server.put(f"/v2/{repository}/blobs/{digest}", content)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with serving() as server:
        upstream = Upstream(server, tmp_path / "cache", json.loads(json.dumps(RECIPE)), SmallTools())
        upstream.publish(f"v1.37.2/{architecture()}/kubeadm", KUBEADM, checksum=True)
        upstream.publish(f"v1.37.2/{architecture()}/kubelet", "kubelet", checksum=True)
        upstream.publish(f"v1.37.2/{architecture()}/kubectl", "kubectl", checksum=True)
        upstream.publish("metallb.yaml", MANIFEST)
        for repository, tag in (("pause", "3.10.2"), ("etcd", "3.7.0-0"), ("library/nginx", "1.30.4")):
            upstream.publish_image(repository, tag, f"layer of {repository}")
        yield upstream


def test_a_downloaded_bundle_is_complete_and_installed(upstream: Upstream) -> None:
    bundle = upstream.download()

    assert upstream.paths().count("/v2/etcd/manifests/3.7.0-0") == 1  # Docker Hub limits these requests
    assert bundle == next(readable_bundles(upstream.cache))
    assert (bundle.maker, bundle.recipe) == ("download", "small")
    assert bundle.versions == {
        "kubernetes": "1.37.2",
        "etcd": "3.7.0",
        "pause": "3.10.2",
        "nginx": "1.30.4",
        "debian": "trixie",
    }
    assert bundle.web_image == bundle.image("nginx") == "docker.io/library/nginx:1.30.4"
    assert bundle.path("bin/kubeadm").read_text(encoding="utf-8") == KUBEADM
    assert bundle.path("bin/kubectl").stat().st_mode & 0o111
    checksums.verify(bundle, upstream.cache, lambda _text: None)
    record = json.loads(bundle.path(downloading.RECORD).read_bytes())
    assert record["recipe"]["name"] == "small"
    assert len(record["digests"]) == 7


def test_an_archive_has_the_unmodified_image_of_this_architecture(upstream: Upstream) -> None:
    bundle = upstream.download()
    archive = bundle.path("images/etcd.tar")

    assert images.reference_of(archive) == "registry.k8s.io/etcd:3.7.0-0"
    with tarfile.open(archive) as tar:
        members = {name: file.read() for name in tar.getnames() if (file := tar.extractfile(name))}
    [listed] = json.loads(members["index.json"])["manifests"]
    layer = hashlib.sha256(b"layer of etcd").hexdigest()
    assert members[f"blobs/sha256/{layer}"] == b"layer of etcd"
    assert f"/v2/etcd/manifests/{listed['digest']}" in upstream.paths()
    assert f"blobs/sha256/{listed['digest'].removeprefix('sha256:')}" in members
    first = checksums.sha256(archive)
    shutil.rmtree(bundle.folder)
    assert checksums.sha256(upstream.download().path("images/etcd.tar")) == first


def test_the_image_that_builds_the_nodes_system_stays_the_first_one(upstream: Upstream) -> None:
    upstream.tools.way = ways.ENGINE
    digest = upstream.publish_image("library/debian", "trixie-slim", "first")

    bundle = upstream.download()

    assert bundle.path("base/node.packages").read_text(encoding="utf-8").startswith(f"{by_engine.REPOSITORY}:")
    assert not list(bundle.folder.rglob(by_engine.BASE))
    assert json.loads(bundle.path(downloading.RECORD).read_bytes())["digests"][recipes.NODE_IMAGE] == digest
    assert [file.source for file in bundle.files if file.path == "base/node.tar" and digest in file.source]
    shutil.rmtree(bundle.folder)
    upstream.publish_image("library/debian", "trixie-slim", "the tag has moved")
    assert upstream.download() == bundle


def test_an_installed_bundle_is_used_without_any_request(upstream: Upstream) -> None:
    first = upstream.download()
    upstream.server.reset()

    assert upstream.download() == first
    assert upstream.server.requests == []


def test_files_verified_by_an_interrupted_download_are_not_fetched_again(upstream: Upstream) -> None:
    upstream.tools.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        upstream.download()
    assert not [*readable_bundles(upstream.cache)]
    upstream.tools.error = None
    upstream.server.reset()

    upstream.download()

    assert not [path for path in upstream.paths() if "/blobs/" in path or path.endswith(("kubeadm", "kubelet"))]


def test_too_little_disk_space_is_reported_with_both_sizes_before_anything_is_fetched(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=7 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _folder: usage)
        with pytest.raises(MissingError) as raised:
            upstream.download()

    assert raised.value.id == "disk-full"
    assert [size for size in (f"{downloading.SPACE >> 20} MiB", "7 MiB") if size not in raised.value.message] == []
    assert upstream.server.requests == []
    assert upstream.download().has("images/etcd.tar")


def test_a_damaged_bundle_is_repaired(upstream: Upstream) -> None:
    first = upstream.download()
    first.path("bin/kubelet").write_text("other", encoding="utf-8")
    first.path("images/etcd.tar").unlink()

    assert upstream.download() == first
    assert first.path("bin/kubelet").read_text(encoding="utf-8") == "kubelet"


def test_a_damaged_bundle_stays_in_place_until_upstream_responds(upstream: Upstream) -> None:
    first = upstream.download()
    first.path("bin/kubelet").write_text("other", encoding="utf-8")
    upstream.server.url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(MissingError) as raised:
        upstream.download()

    assert raised.value.id == "source-unreachable"
    assert first.path("bin/kubelet").exists()


def test_servers_are_probed_in_parallel_without_following_redirects(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(probe.SECONDS, reachable.SECONDS, pools.CONNECT_SECONDS) <= 5
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    monkeypatch.delenv("http_proxy", raising=False)
    with serving() as leading, socket.create_server(("127.0.0.1", 0)) as mute:
        for path in ("/", "/v2/"):
            leading.always[path] = Fault(status=307, headers={"Location": f"http://127.0.0.1:{free_port()}/"})
        port = mute.getsockname()[1]
        table = dict.fromkeys(("quay.io", "docker.io", "dl.k8s.io", "raw.githubusercontent.com"), upstream.server.url)
        table |= {"registry.k8s.io": leading.url, "deb.debian.org": upstream.server.url}
        answering = Order(recipes.load(), parse_mirrors(table, ""))
        mutes = {"quay.io": f"http://127.0.0.1:{port}", "docker.io": f"https://127.0.0.1:{port}"}
        quiet = Order(recipes.load(), parse_mirrors({**table, **mutes}, ""))

        assert unreachable_reasons(answering.servers(), unreachable) == ()
        assert [request.path for request in leading.requests] == ["/v2/"]
        started = time.monotonic()
        reasons = unreachable_reasons(quiet.servers(), unreachable)
        assert [f"127.0.0.1:{port}" in reason for reason in reasons] == [True, True]
        assert time.monotonic() - started < 2


Change = Callable[[Upstream], object]


def _other_program(upstream: Upstream) -> None:
    upstream.publish(f"v1.37.2/{architecture()}/kubelet", "another kubelet", checksum=True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_other_program, "/kubelet"),
        (lambda upstream: upstream.publish_image("etcd", "3.7.0-0", "another"), "registry.k8s.io/etcd:3.7.0-0"),
        (lambda upstream: upstream.publish("metallb.yaml", MANIFEST + "\n"), "metallb.yaml"),
    ],
)
def test_a_file_that_upstream_changed_is_rejected_with_both_digests(
    upstream: Upstream, change: Change, name: str
) -> None:
    first = upstream.download()
    before = {file.path: file.sha256 for file in first.files}
    shutil.rmtree(first.folder)
    change(upstream)

    with pytest.raises(MissingError) as raised:
        upstream.download()

    assert raised.value.id == "upstream-changed"
    assert name in raised.value.message
    assert raised.value.message.count("sha256:") == 2
    assert before["bin/kubelet"] in raised.value.message or name != "/kubelet"
    assert not first.folder.exists()


def _portal(upstream: Upstream) -> None:
    upstream.publish(f"v1.37.2/{architecture()}/kubectl.sha256", "<html>log in</html>")


def _no_checksum(upstream: Upstream) -> None:
    upstream.publish(f"v1.37.2/{architecture()}/kubectl.sha256", "not yet")


def _wrong_binary(upstream: Upstream) -> None:
    upstream.publish(f"v1.37.2/{architecture()}/kubectl", "not what was promised")


def _wrong_pin(upstream: Upstream) -> None:
    upstream.document["manifests"][0]["sha256"] = "0" * 64


def _manifest_with_another_image(upstream: Upstream) -> None:
    upstream.publish("metallb.yaml", MANIFEST.replace("1.30.4", "1.30.5"))


def _manifest_by_digest(upstream: Upstream) -> None:
    upstream.publish("metallb.yaml", MANIFEST.replace("1.30.4", f"1.30.4@sha256:{'0' * 64}"))


def _without_etcd(upstream: Upstream) -> None:
    del upstream.document["images"][1]


def _fault(path: str, fault: Fault) -> Change:
    def inject(upstream: Upstream) -> None:
        if fault.cut == 0:  # something has arrived before
            upstream.server.faults[path] = [Fault(cut=3)]
        upstream.server.always[path] = fault

    return inject


def _image_of_another_architecture(upstream: Upstream) -> None:
    upstream.publish_image("etcd", "3.7.0-0", "x", "riscv64")


def _image_of_another_architecture_in_no_index(upstream: Upstream) -> None:
    tagged = "/v2/etcd/manifests/3.7.0-0"
    upstream.publish_image("etcd", "3.7.0-0", "x", "riscv64")
    [listed] = json.loads(upstream.server.files[tagged])["manifests"]
    upstream.server.put(tagged, upstream.server.files[f"/v2/etcd/manifests/{listed['digest']}"], IMAGE_MANIFEST)


@pytest.mark.parametrize(
    ("change", "identity"),
    [
        (_portal, "captive-portal"),
        (_no_checksum, "checksum-unreadable"),
        (_wrong_binary, "digest-mismatch"),
        (_wrong_pin, "digest-mismatch"),
        (_manifest_with_another_image, "recipe-mismatch"),
        (_manifest_by_digest, "recipe-mismatch"),
        (_without_etcd, "recipe-mismatch"),
        (_image_of_another_architecture, "architecture-missing"),
        (_image_of_another_architecture_in_no_index, "architecture-missing"),
        (_fault(ETCD, Fault(status=429, headers={"Retry-After": "7200"})), "rate-limited"),
        (_fault(KUBELET, Fault(cut=0)), "source-cut-off"),
        (_fault(KUBELET, Fault(status=404)), "source-not-found"),
        (_fault(ETCD_LAYER, Fault(cut=0)), "source-cut-off"),
        (_fault(ETCD_LAYER, Fault(flip=3)), "digest-mismatch"),
        (_fault(ETCD_LAYER, Fault(status=503)), "source-failing"),
        (_fault(ETCD_LAYER, Fault(status=404)), "source-not-found"),  # a registry that has half of the image
        (_fault(ETCD_LAYER, Fault(status=401)), "login-needed"),
    ],
)
def test_a_fault_is_one_error_and_the_next_download_fetches_only_what_is_missing(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, change: Change, identity: str
) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0.0,))
    files, document = dict(upstream.server.files), json.loads(json.dumps(upstream.document))
    change(upstream)

    with pytest.raises(LabError) as raised:
        upstream.download()

    assert raised.value.id == identity
    assert not [*readable_bundles(upstream.cache)]

    upstream.server.files, upstream.document = files, document
    upstream.server.always.clear()
    missing = upstream.missing()
    upstream.server.reset()
    assert upstream.download().has("images/etcd.tar")
    assert {path: size for path, size in upstream.server.sent.items() if path in upstream.contents()} == missing


def test_another_patch_version_has_the_images_that_its_kubeadm_lists(upstream: Upstream) -> None:
    for name, content in (
        ("kubeadm", KUBEADM.replace("etcd:3.7.0-0", "etcd:3.6.9-0")),
        ("kubelet", "older"),
        ("kubectl", "older"),
    ):
        upstream.publish(f"v1.37.1/{architecture()}/{name}", content, checksum=True)
    upstream.publish_image("etcd", "3.6.9-0", "older")

    first = upstream.download()
    shared = upstream.contents().keys() - upstream.missing().keys()
    upstream.server.reset()

    bundle = upstream.download("1.37.1")

    assert not shared.intersection(upstream.paths())  # both versions have these images
    assert (bundle.versions["kubernetes"], bundle.versions["etcd"]) == ("1.37.1", "3.6.9")
    assert bundle.image("etcd") == "registry.k8s.io/etcd:3.6.9-0"
    assert bundle.id != first.id
