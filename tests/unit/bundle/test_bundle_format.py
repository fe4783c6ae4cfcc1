"""Reading a bundle, and verifying its files by their checksums."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_files import Golden

from labctl.bundle import Bundle, File, Image, load, readable_bundles, verify, verify_once
from labctl.bundle.build.ingredients import ContainerImage
from labctl.bundle.build.recipe import RECIPE
from labctl.bundle.format import write
from labctl.model.errors import MissingError
from labctl.model.lab import Phase, Role
from labctl.render.yaml_stream import documents, yaml_stream

IMAGES = (
    Image("labctl.local/pause:1.0", "images/pause.tar", "node", Phase.SANDBOX),
    Image("registry.k8s.io/etcd:3.7.3-0", "images/etcd.tar", "control-plane", Phase.CONTROL_PLANE),
    Image("docker.io/library/traefik:v3.7.15", "images/traefik.tar", "node", Phase.ADDONS),
    Image("labctl.local/nginx:1.26.3", "images/nginx.tar", "node", Phase.ADDONS),
)


def _ignore(_text: str) -> None:
    pass


def _bundle(folder: Path, contents: dict[str, bytes] | None = None) -> Bundle:
    contents = {"bin/kubelet": b"kubelet", "images/pause.tar": b"pause"} if contents is None else contents
    files = []
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        files.append(File(path, hashlib.sha256(content).hexdigest(), len(content), "a test"))
    versions = {"kubernetes": "1.37.2"}
    bundle = Bundle(folder, folder.name, "build", "amd64", versions, IMAGES, "labctl.local/nginx:1.26.3", tuple(files))
    write(bundle)
    return bundle


def _rewrite(folder: Path, **changes: object) -> None:
    path = folder / "bundle.yaml"
    (document,) = documents(path.read_text(encoding="utf-8"))
    path.write_text(yaml_stream([document | changes]), encoding="utf-8")


def test_a_written_bundle_is_loaded_unchanged(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    assert load(tmp_path) == bundle
    assert bundle.path("bin/kubelet") == tmp_path / "bin/kubelet"
    assert bundle.has("bin/kubelet")
    assert not bundle.has("bin/kubectl")


def test_the_digest_of_an_image_is_the_one_it_was_downloaded_with(tmp_path: Path) -> None:
    built = _bundle(tmp_path)
    [reference] = [image.reference for image in IMAGES if image.archive == "images/pause.tar"]
    downloaded = [replace(each, source=f"{reference}@sha256:12") for each in built.files]

    assert built.digest(reference) == ""
    assert replace(built, files=tuple(downloaded)).digest(reference) == "sha256:12"
    assert replace(built, files=tuple(downloaded)).digest("example.com/pause:1") == ""


def test_a_missing_bundle_is_not_found(tmp_path: Path, golden: Golden) -> None:
    with pytest.raises(MissingError) as raised:
        load(tmp_path / "nowhere")
    assert raised.value.id == "bundle-not-found"
    golden({"message": raised.value.message, "hint": raised.value.hint})


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\x00"])
def test_a_description_that_is_not_yaml_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bundle.yaml").write_bytes(content)
    with pytest.raises(MissingError, match=r"bundle\.yaml") as raised:
        load(tmp_path)
    assert raised.value.id == "bundle-unreadable"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema": 3}, "schema is 3"),
        ({"images": [{"reference": "a:1", "archive": "a.tar", "runs_on": "node"}]}, "images.0.phase"),
        ({"schema": 1, "images": "none"}, "images"),
        ({"schema": 1, "images": ["a"]}, "images.0"),
        ({"maker": None}, "maker"),
        ({"images": [{"reference": "a:1", "archive": "a.tar", "runs_on": "moon"}]}, "images.0.runs_on"),
        ({"files": [{"path": "bin/kubelet", "sha256": "00", "size": "big", "source": ""}]}, "files.0.size"),
        ({"files": [{"path": "../etc/passwd", "sha256": "00", "size": 1, "source": ""}]}, "../etc/passwd"),
        ({"images": [{"reference": "a:1", "archive": "../a.tar", "runs_on": "node", "phase": "addons"}]}, "../a.tar"),
        (
            {"images": [{"reference": "a:1", "archive": "a.tar; reboot", "runs_on": "node", "phase": "addons"}]},
            "a.tar; reboot",
        ),
        (
            {"images": [{"reference": "$(reboot)", "archive": "a.tar", "runs_on": "node", "phase": "addons"}]},
            "$(reboot)",
        ),
        ({"id": "demo\nreboot"}, "demo\\nreboot"),
        ({"id": "demo/../../outside"}, "demo/../../outside"),
        ({"versions": {"kubernetes": "1.37.2\nevil: true"}}, "evil: true"),
        ({"files": [{"path": "/etc/passwd", "sha256": "00", "size": 1, "source": ""}]}, "/etc/passwd"),
    ],
)
def test_an_invalid_description_is_refused_and_the_wrong_key_is_named(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    _bundle(tmp_path)
    _rewrite(tmp_path, **changes)
    with pytest.raises(MissingError) as raised:
        load(tmp_path)
    assert raised.value.id == "bundle-schema"
    assert named in raised.value.message


def test_a_list_in_place_of_a_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(MissingError) as raised:
        load(tmp_path)
    assert raised.value.id == "bundle-schema"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("labctl.local/nginx:1.26.3", "labctl.local/nginx:1.26.3"),
        ("nginx", "labctl.local/nginx:1.26.3"),
        ("traefik:v3.7.15", "docker.io/library/traefik:v3.7.15"),
        ("library/traefik:v3.7.15", "docker.io/library/traefik:v3.7.15"),
        ("docker.io/library/traefik:v3.7.15", "docker.io/library/traefik:v3.7.15"),
        ("traefik", "docker.io/library/traefik:v3.7.15"),
        ("nginx:1.27", None),
        ("example.com/nginx", None),
        ("nginx:1.26.3", None),
        ("redis", None),
    ],
)
def test_an_image_is_found_by_the_name_a_user_writes(tmp_path: Path, name: str, expected: str | None) -> None:
    assert _bundle(tmp_path).image(name) == expected


def test_a_node_imports_what_its_role_needs_phase_by_phase(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)

    assert bundle.archives(Role.CONTROL_PLANE) == {
        Phase.SANDBOX: ("images/pause.tar",),
        Phase.CONTROL_PLANE: ("images/etcd.tar",),
        Phase.CLUSTER: (),
        Phase.ADDONS: ("images/traefik.tar", "images/nginx.tar"),
    }
    assert bundle.archives(Role.WORKER) == {**bundle.archives(Role.CONTROL_PLANE), Phase.CONTROL_PLANE: ()}


def test_a_schema_1_bundle_derives_phases_from_the_order_of_its_images(tmp_path: Path) -> None:
    images = tuple(artefact.made_from for artefact in RECIPE if isinstance(artefact.made_from, ContainerImage))
    _bundle(tmp_path)
    described = [
        {"reference": f"a:{n}", "archive": f"{n}.tar", "runs_on": each.runs_on} for n, each in enumerate(images)
    ]
    _rewrite(tmp_path, schema=1, images=described)

    assert [image.phase for image in load(tmp_path).images] == [image.phase for image in images]


def test_installed_bundles_are_listed_newest_first_without_unfinished_ones(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old")):
        bundle = _bundle(tmp_path / "bundles" / name)
        os.utime(bundle.path("bundle.yaml"), (1_000 - age, 1_000 - age))
    (tmp_path / "bundles" / "other.partial").mkdir()
    assert [bundle.id for bundle in readable_bundles(tmp_path)] == ["new", "old"]
    assert not [*readable_bundles(tmp_path / "empty")]


def test_verify_names_every_file_that_is_missing_or_differs(tmp_path: Path, golden: Golden) -> None:
    bundle = _bundle(tmp_path / "b", {"a": b"aaaa", "b": b"bbbb", "c": b"cccc", "d": b"dddd"})
    bundle.path("a").write_bytes(b"aaab")
    bundle.path("b").unlink()
    bundle.path("c").write_bytes(b"cc")
    with pytest.raises(MissingError) as raised:
        verify(bundle, tmp_path, _ignore)
    assert raised.value.id == "bundle-damaged"
    golden({"message": raised.value.message, "hint": raised.value.hint})


def test_verify_once_hashes_each_file_once(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b")
    messages: list[str] = []
    assert verify_once(bundle, tmp_path, messages.append)
    assert not verify_once(bundle, tmp_path, messages.append)
    assert len(messages) == 1


def test_verify_once_writes_nothing_into_the_bundle(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b")
    before = sorted(bundle.folder.rglob("*"))
    verify_once(bundle, tmp_path / "cache", _ignore)
    assert sorted(bundle.folder.rglob("*")) == before


def test_verify_once_detects_a_flipped_byte_and_a_missing_file(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b")
    verify_once(bundle, tmp_path, _ignore)
    bundle.path("bin/kubelet").write_bytes(b"kubelex")
    for _ in range(2):
        with pytest.raises(MissingError, match=r"bin/kubelet") as raised:
            verify_once(bundle, tmp_path, _ignore)
        assert "images/pause.tar" not in raised.value.message
    bundle.path("images/pause.tar").unlink()
    with pytest.raises(MissingError, match=r"images/pause\.tar"):
        verify_once(bundle, tmp_path, _ignore)


def test_a_replaced_file_of_the_same_size_and_time_is_hashed_again(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b")
    verify_once(bundle, tmp_path, _ignore)
    kubelet = bundle.path("bin/kubelet")
    time = kubelet.stat().st_mtime_ns
    other = tmp_path / "other"
    other.write_bytes(b"kubeleX")
    os.utime(other, ns=(time, time))
    other.replace(kubelet)
    with pytest.raises(MissingError, match=r"bin/kubelet"):
        verify_once(bundle, tmp_path, _ignore)


def test_verify_hashes_files_that_verify_once_would_skip(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b")
    verify_once(bundle, tmp_path, _ignore)
    kubelet = bundle.path("bin/kubelet")
    time = kubelet.stat().st_mtime_ns
    with kubelet.open("r+b") as file:
        file.write(b"K")
    os.utime(kubelet, ns=(time, time))
    assert not verify_once(bundle, tmp_path, _ignore)
    for check in (verify, verify_once):  # verify_once reports what verify found
        with pytest.raises(MissingError, match=r"bin/kubelet"):
            check(bundle, tmp_path, _ignore)


def test_a_damaged_record_of_verified_files_only_causes_another_verification(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b")
    verify_once(bundle, tmp_path, _ignore)
    for record in (tmp_path / "checked").iterdir():
        record.write_text("{not json", encoding="utf-8")
    assert verify_once(bundle, tmp_path, _ignore)
