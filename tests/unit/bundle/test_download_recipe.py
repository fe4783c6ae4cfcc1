"""Recipes of downloads: validation, versions that are filled in, and comparison with what upstream requires."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import pytest
from golden_files import Golden

from labctl.bundle.build import makers
from labctl.bundle.build.build import recipe_id as build_id
from labctl.bundle.checksums import sha256
from labctl.bundle.download import detector, required_images, tools
from labctl.bundle.download.download import versions
from labctl.bundle.download.pins import Pins
from labctl.bundle.download.recipe import OWN, archive, load, recipe_id
from labctl.bundle.images import reference_of
from labctl.model.errors import MissingError, UsageError
from labctl.model.lab import Phase
from labctl.render.ingress import CONTROLLERS
from labctl.render.yaml_stream import documents, yaml_stream

KUBEADMS = (
    *(f"registry.k8s.io/kube-{name}:v1.37.2" for name in ("apiserver", "controller-manager", "scheduler", "proxy")),
    *("registry.k8s.io/coredns/coredns:v1.14.6", "registry.k8s.io/pause:3.10.2", "registry.k8s.io/etcd:3.7.0-0"),
)
"""The output of kubeadm 1.37.2."""


def _write_recipe(tmp_path: Path, **changes: Any) -> Path:  # noqa: ANN401 - any YAML
    (document,) = documents(OWN.read_text(encoding="utf-8"))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml_stream([document | changes]), encoding="utf-8")
    return path


def test_the_builtin_recipe_has_everything_that_labs_need() -> None:
    recipe = load()
    rows = required_images.with_versions(recipe, KUBEADMS, follows=False)
    references = {row.reference.partition("@")[0].rpartition(":")[0] for row in rows}

    for controller in CONTROLLERS:
        assert set(controller.needs) <= references | set(recipe.paths())
    assert {row.phase for row in rows} == set(Phase)
    assert versions(recipe, rows).items() >= {"etcd": "3.7.0", "coredns": "1.14.6", "ingress-nginx": "1.15.1"}.items()
    assert len({archive(row.reference) for row in rows}) == len(rows)
    assert archive("registry.k8s.io/ingress-nginx/controller:v1") == "images/ingress-nginx-controller.tar"


def test_the_id_depends_on_the_recipes_content_and_differs_from_a_builds_id(tmp_path: Path) -> None:
    own = load()
    same = load(_write_recipe(tmp_path, name="another", megabytes=1))
    other = load(_write_recipe(tmp_path, web="docker.io/library/traefik"))

    ids = [recipe_id(each) for each in (own, same, other, own.with_kubernetes("1.37.1"))]
    assert ids[0] == ids[1]
    assert len({*ids, build_id()}) == 4
    assert [identity.split("-")[1] for identity in ids] == ["1.37.2"] * 3 + ["1.37.1"]
    assert own.with_kubernetes("1.37.2") is own


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2, "minutes": 0, "surprise": True},
        {"versions": {"metallb": "0.15.2"}},
        {"binaries": [{"path": "bin/kubeadm", "url": "http://dl.k8s.io/kubeadm", "sha256": {"amd64": "abc"}}]},
        {"binaries": [{"path": "../kubeadm", "url": "https://dl.k8s.io/{version}/kubeadm"}]},
        {"binaries": [{"path": "bin/kubeadm", "url": "https://dl.k8s.io/{version}/{kubernetes}"}]},
        {"images": [{"reference": "nginx", "runs_on": "all", "phase": "later"}]},
        {"images": [{"reference": "quay.io/a/b:{architecture}", "runs_on": "node", "phase": "addons"}]},
        {"web": "docker.io/library/httpd", "images": []},
        {"manifests": [{"path": "manifests/a.yaml", "url": "https://example.com/a"}] * 2},
        {"versions": {"kubernetes": "1.37.2", "0": "1.0.0", "a.b": "1.0.0"}},
        {"manifests": [{"path": f"manifests/{name}.yaml", "url": "https://example.com/a"} for name in "ab"]},
        {"node": "trixie"},
    ],
    ids=[
        "keys",
        "versions",
        "values",
        "path",
        "braces",
        "image",
        "architecture of an image",
        "contradictions",
        "twice",
        "names",
        "one address",
        "text",
    ],
)
def test_an_invalid_recipe_is_refused_with_every_problem(
    tmp_path: Path, changes: dict[str, Any], golden: Golden
) -> None:
    path = _write_recipe(tmp_path, **changes)
    with pytest.raises(UsageError) as raised:
        load(path)
    assert raised.value.id == "recipe-invalid"
    golden(raised.value.message.replace(str(path), "FILE"))


def test_an_unreadable_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("{", encoding="utf-8")
    (tmp_path / "no date").write_text("megabytes: 2026-99-99", encoding="utf-8")
    for name, identity in (
        *(("gone", "recipe-not-found"), (".", "recipe-unreadable")),
        *(("broken", "recipe-invalid"), ("no date", "recipe-invalid")),
    ):
        with pytest.raises(UsageError) as raised:
            load(tmp_path / name)
        assert raised.value.id == identity


def test_required_images_that_the_recipe_lacks_are_named(golden: Golden) -> None:
    recipe = load()
    with pytest.raises(MissingError) as raised:
        required_images.with_versions(
            recipe, [*KUBEADMS[:-1], "registry.k8s.io/etcd:3.9.9-0", "quay.io/a/b:1"], follows=False
        )
    assert raised.value.id == "recipe-mismatch"
    golden(raised.value.message)


def test_a_recipe_for_another_version_takes_images_from_its_kubeadm() -> None:
    recipe = load().with_kubernetes("1.37.1")
    theirs = [re.sub("v1.37.2", "v1.37.1", each).replace("3.7.0-0", "3.6.9-0") for each in KUBEADMS]

    rows = required_images.with_versions(recipe, theirs, follows=True)

    assert {row.reference for row in rows} >= set(theirs)
    assert versions(recipe, rows)["etcd"] == "3.6.9"
    with pytest.raises(MissingError):
        required_images.with_versions(recipe, theirs, follows=False)


def test_images_are_parsed_from_kubeadm_output_and_manifests() -> None:
    output = "I1126 14:48:28 version.go:260] remote version is much newer\n" + "\n".join(KUBEADMS)
    manifest = "a: [{image: example.com/a/b:1, name: x}]\n---\nproperties: {image: {type: string}}\n"

    assert required_images.kubeadm_images(output) == KUBEADMS
    assert required_images.manifest_images(manifest) == ("example.com/a/b:1",)


def test_pins_are_kept_and_a_changed_pin_or_damaged_record_is_refused(tmp_path: Path) -> None:
    pins = Pins(tmp_path, "some")
    pins.keep({"a": "sha256:1"})
    pins.keep({"a": "sha256:1", "b": "sha256:2"})
    with pytest.raises(MissingError) as changed:
        pins.keep({"b": "sha256:3"})
    assert pins.known() == {"a": "sha256:1", "b": "sha256:2"}
    pins.path.write_text("[", encoding="utf-8")
    with pytest.raises(MissingError) as damaged:
        pins.known()
    assert (changed.value.id, damaged.value.id) == ("upstream-changed", "pins-unreadable")


@pytest.mark.parametrize(("identity", "is_left_out"), [("go-proxy-unreachable", True), ("disk-full", False)])
def test_the_failure_detector_is_left_out_only_where_go_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str, *, is_left_out: bool
) -> None:
    def fail(*_arguments: object) -> NoReturn:
        raise MissingError("no", id=identity)

    monkeypatch.setattr(detector, "has_program", lambda _architecture: False)
    monkeypatch.setattr(makers, "find_go", fail)
    if is_left_out:
        assert not tools.make_detector("amd64", tmp_path, lambda _text: None, tmp_path)
    else:
        with pytest.raises(MissingError, match="no"):
            tools.make_detector("amd64", tmp_path, lambda _text: None, tmp_path)


def test_a_release_contains_the_failure_detector_and_verifies_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "files", lambda _package: tmp_path)
    assert not detector.has_program("amd64")
    folder = tmp_path / detector.FOLDER
    folder.mkdir()
    (folder / "linux-amd64").write_bytes(b"program")
    (folder / "linux-amd64.sha256").write_text(f"{sha256(folder / 'linux-amd64')}  linux-amd64\n", encoding="ascii")

    assert detector.has_program("amd64")
    detector.write_image(tmp_path / "image.tar", "amd64")
    assert reference_of(tmp_path / "image.tar") == "labctl.local/failure-detector:1.1"
    (folder / "linux-amd64").write_bytes(b"another")
    with pytest.raises(MissingError) as raised:
        detector.write_image(tmp_path / "image.tar", "amd64")
    assert raised.value.id == "failure-detector-damaged"
