"""Builds of a bundle with fake makers that create small files immediately: order, resume, repair and failures."""

from __future__ import annotations

import errno
import os
import platform
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeMakers
from golden_files import Golden

from labctl.bundle import load, readable_bundles
from labctl.bundle.build import build as building
from labctl.bundle.build.build import build, recipe_id
from labctl.bundle.build.ingredients import Artefact
from labctl.bundle.build.recipe import RECIPE
from labctl.host import locks
from labctl.model.errors import LabError, MissingError, ProviderError

SHORT = tuple(
    artefact
    for artefact in RECIPE
    if not artefact.path.startswith(("images/kube", "images/metallb", "images/pause", "images/traefik", "bin/kubectl"))
)
"""The recipe without most artefacts that are made in the same way as another one."""


@pytest.fixture(autouse=True)
def _short_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "RECIPE", SHORT)


@pytest.fixture
def whole_recipe(_short_recipe: None, monkeypatch: pytest.MonkeyPatch) -> tuple[Artefact, ...]:
    monkeypatch.setattr(building, "RECIPE", RECIPE)
    return RECIPE


@pytest.fixture(autouse=True)
def _enough_disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)


def _ignore(_text: str) -> None:
    pass


def _paths(bundle_folder: Path) -> list[str]:
    return sorted(str(path.relative_to(bundle_folder)) for path in bundle_folder.rglob("*") if path.is_file())


def test_a_build_creates_every_artefact_reports_progress_and_describes_the_bundle(
    tmp_path: Path, whole_recipe: tuple[Artefact, ...], golden: Golden
) -> None:
    makers, messages = FakeMakers(), list[str]()
    bundle = build(tmp_path, messages.append, makers)
    golden(messages[0])
    assert len(messages) == len(whole_recipe)
    assert makers.checked
    assert makers.created == [artefact.path for artefact in whole_recipe]
    assert bundle.folder == tmp_path / "bundles" / recipe_id()
    assert (bundle.id, bundle.maker) == (recipe_id(), "build")
    assert bundle.web_image == bundle.image("nginx") == "labctl.local/nginx:1.26.3"
    assert bundle.versions["kubernetes"] == "1.37.2"
    assert (bundle.versions["nginx"], bundle.versions["go"]) == ("1.26.3", "1.26.8")
    assert _paths(bundle.folder) == sorted(["bundle.yaml", *(file.path for file in bundle.files)])
    assert load(bundle.folder) == bundle


def test_a_second_build_creates_and_hashes_nothing(tmp_path: Path) -> None:
    first = build(tmp_path, _ignore, FakeMakers())
    again, messages = FakeMakers(), list[str]()
    assert build(tmp_path, messages.append, again) == first
    assert (again.created, again.checked, messages) == ([], False, [])


@pytest.mark.parametrize("cut_off_at", [SHORT[at].path for at in (0, len(SHORT) // 2, -1)])
def test_a_build_resumes_at_the_first_missing_artefact(tmp_path: Path, cut_off_at: str) -> None:
    first, second = FakeMakers(fails_at=cut_off_at), FakeMakers()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, _ignore, first)
    assert not (tmp_path / "bundles" / recipe_id()).exists()
    bundle = build(tmp_path, _ignore, second)
    assert [*first.created, *second.created] == [artefact.path for artefact in SHORT]
    assert second.created[0] == cut_off_at
    assert _paths(bundle.folder) == sorted(["bundle.yaml", *(file.path for file in bundle.files)])


def test_leftovers_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, _ignore, FakeMakers(fails_at="bin/kubelet"))
    left_behind = tmp_path / "bundles" / f"{recipe_id()}.partial" / ".making-abc" / "tree"
    left_behind.mkdir(parents=True)
    (left_behind / "half").write_text("half", encoding="utf-8")
    bundle = build(tmp_path, _ignore, FakeMakers())
    assert not list(bundle.folder.glob(".making-*"))


def test_an_unlisted_or_truncated_file_of_a_killed_build_is_rebuilt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, _ignore, FakeMakers(fails_at="bin/kubelet"))
    partial = tmp_path / "bundles" / f"{recipe_id()}.partial"
    (partial / "images/etcd.tar").write_bytes(b"short")
    (partial / "bin").mkdir()
    (partial / "bin/kubelet").write_bytes(b"not listed")
    again = FakeMakers()
    build(tmp_path, _ignore, again)
    assert again.created == ["images/etcd.tar", "bin/kubelet", "bin/kubeadm", "manifests/metallb-native.yaml"]


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_repair_of_a_damaged_bundle_rebuilds_only_the_damaged_files(tmp_path: Path, *, is_linked: bool) -> None:
    bundle = build(tmp_path, _ignore, FakeMakers())
    other = bundle.folder.with_name(f"{bundle.id}.partial")  # left by an earlier run, here or on another disk
    shutil.copytree(bundle.folder, tmp_path / "disk" if is_linked else other)
    if is_linked:
        other.symlink_to(tmp_path / "disk")
    content = bundle.path("bin/kubeadm").read_bytes()
    bundle.path("bin/kubeadm").write_bytes(content.swapcase())
    bundle.path("base/node.packages").unlink()
    again, messages = FakeMakers(), list[str]()
    assert build(tmp_path, messages.append, again) == bundle
    assert again.created == ["base/node.tar", "bin/kubeadm"]
    assert bundle.path("bin/kubeadm").read_bytes() == content
    assert any("bin/kubeadm" in line for line in messages)


def test_a_bundle_under_repair_is_not_installed(tmp_path: Path) -> None:
    bundle = build(tmp_path, _ignore, FakeMakers())
    bundle.path("bin/kubeadm").unlink()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, _ignore, FakeMakers(fails_at="bin/kubeadm"))
    assert not [*readable_bundles(tmp_path)]


def test_a_bundle_with_an_unreadable_description_is_rebuilt(tmp_path: Path) -> None:
    bundle = build(tmp_path, _ignore, FakeMakers())
    bundle.path("bundle.yaml").write_text("{", encoding="utf-8")
    assert build(tmp_path, _ignore, FakeMakers()) == bundle


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        MissingError("the disk is full", id="disk-full", details=("write /x: no space left on device",)),
    ],
)
def test_a_full_disk_is_reported_and_the_next_build_resumes(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(MissingError) as raised:
        build(tmp_path, _ignore, FakeMakers("images/coredns.tar", error))
    assert raised.value.id == "disk-full"
    assert str(tmp_path / "bundles") in raised.value.message
    again = FakeMakers()
    build(tmp_path, _ignore, again)
    assert again.created[0] == "images/coredns.tar"


def test_too_little_disk_space_is_reported_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    makers = FakeMakers()
    with pytest.raises(MissingError, match="4 GiB") as raised:
        build(tmp_path, _ignore, makers)
    assert (raised.value.id, makers.created) == ("disk-full", [])


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/cache/file")
    with pytest.raises(MissingError, match="/cache/file") as raised:
        build(tmp_path, _ignore, FakeMakers("images/etcd.tar", error))
    assert raised.value.id == "bundle-not-writable"


@pytest.mark.parametrize("kind", [MissingError, ProviderError])
def test_a_tool_failure_names_the_artefact_and_keeps_the_last_lines(tmp_path: Path, kind: type[LabError]) -> None:
    error = kind("`go build` ended with exit code 1", id="tool-failed", details=("undefined: x",))
    with pytest.raises(MissingError, match=r"images/etcd\.tar") as raised:
        build(tmp_path, _ignore, FakeMakers("images/etcd.tar", error))
    assert raised.value.id == "bundle-build-failed"
    assert raised.value.details == ("`go build` ended with exit code 1", "undefined: x")


def test_a_bug_in_a_maker_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        build(tmp_path, _ignore, FakeMakers("images/etcd.tar", KeyError("x")))


def test_a_build_waits_for_another_build_and_reports_its_pid(tmp_path: Path) -> None:
    messages: list[str] = []
    with ExitStack() as other:
        other.enter_context(locks.exclusive(tmp_path / "bundles" / f"{recipe_id()}.lock", _ignore, timeout=0))

        def report(text: str) -> None:
            messages.append(text)
            other.close()  # the other build ends as soon as this one reports that it waits

        build(tmp_path, report, FakeMakers())

    assert f"(pid {os.getpid()})" in messages[0]


def test_the_id_changes_with_any_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe_id()
    assert before == recipe_id()
    assert before.startswith("kubernetes-1.37.2-")
    monkeypatch.setattr(building, "RECIPE", (*SHORT[:-1], replace(SHORT[-1], path="manifests/other.yaml")))
    assert recipe_id() != before


def test_the_id_changes_with_labctls_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(building.__file__).parent
    for folder in ("go", "rootfs"):
        shutil.copytree(here / folder, tmp_path / folder)
    before = recipe_id()
    with (tmp_path / "go/etcd/go.sum").open("a", encoding="utf-8") as file:
        file.write("\n")
    monkeypatch.setattr(building, "__file__", str(tmp_path / "build.py"))
    assert recipe_id() != before


def test_an_unsupported_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(MissingError, match="riscv64") as raised:
        recipe_id()
    assert raised.value.id == "architecture-unsupported"
