"""List, choose and remove bundles."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import VERSIONS, Watched, bundle, lab

from labctl.bundle.choice import default_folder, own_ids
from labctl.bundle.format import NEWER, write
from labctl.bundle.oci import references
from labctl.commands import bundles
from labctl.config import saved_lab
from labctl.context import Context
from labctl.model.errors import MissingError, UsageError
from labctl.transfer.reference import parse

pytestmark = pytest.mark.usefixtures("home")


def test_bundles_in_the_cache_are_listed(home: Path) -> None:
    cached = bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2")
    write(cached)

    (described,) = bundles.list_cache(home / "cache" / "labctl")["bundles"]

    assert (described["id"], described["kubernetes"], described["traefik"]) == ("kubernetes-1.37.2", "1.37.2", None)
    assert described["folder"] == str(cached.folder)


def test_a_bundle_outside_of_the_cache_is_verified(home: Path, watched: Watched) -> None:
    stored = bundle(home / "stick")
    write(stored)
    assert [each["id"] for each in bundles.verify(stored.folder, home / "cache", watched.report)] == [stored.id]

    system, moved = stored.path("base/node.tar"), home / "moved"
    system.rename(moved)
    system.symlink_to(moved)
    with pytest.raises(MissingError, match=r"base/node\.tar") as linked:
        bundles.verify(stored.folder, home / "cache", watched.report)
    assert linked.value.id == "bundle-linked"

    system.write_bytes(b"x")
    with pytest.raises(MissingError, match=r"base/node\.tar") as damaged:
        bundles.verify(stored.folder, home / "cache", watched.report)
    assert damaged.value.id == "bundle-damaged"


def test_a_bundle_is_named_by_its_folder_or_the_reference_it_was_pulled_from(home: Path) -> None:
    cache = home / "cache"
    pulled = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(pulled)

    assert [bundles.find_folder(text, cache) for text in (None, "stick")] == [None, Path("stick")]
    with pytest.raises(MissingError) as raised:
        bundles.find_folder("oci://registry.test/labs:1", cache)
    assert raised.value.id == "bundle-not-pulled"
    references.record_pulled(parse("registry.test/labs:1"), references.PulledReference("sha256:0", pulled.id), cache)
    assert bundles.find_folder("oci://registry.test/labs:1", cache) == pulled.folder


def test_the_default_bundle_of_up_is_also_pushed_and_kept(home: Path, watched: Watched) -> None:
    cache = home / "cache" / "labctl"
    saved_lab.write(saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), isolated=False))
    download, build = own_ids()
    newest_first: list[tuple[str, dict[str, Any]]] = [
        ("other", {"architecture": "arm64"}),
        ("older", {"versions": {**VERSIONS, "kubernetes": "1.36.0"}}),
    ]
    newest_first += [("imported", {}), (build, {}), (download, {})]
    cached = []
    for age, (identity, values) in enumerate(newest_first):
        described = replace(bundle(cache / "bundles" / identity), id=identity, **values)
        write(described)
        os.utime(described.path("bundle.yaml"), (10_000 - age, 10_000 - age))
        cached.append(described)

    assert default_folder(cache, "1.36.0") == cache / "bundles/older"
    for expected in (download, build, "older", "imported"):
        requested = Context(lab(), home, cache)
        assert (requested.bundle.id, bundles.choose(None, cache).id) == (expected, expected)
        removed = next(each for each in cached if each.id == expected)
        assert bundles.labs_using(removed.folder) == ["school"]
        with pytest.raises(UsageError):
            bundles.remove(removed.folder, cache, watched.report)
        shutil.rmtree(removed.folder)
    assert default_folder(cache) is None
    with pytest.raises(MissingError) as raised:
        _ = Context(lab(), home, cache, cache / "bundles/other").bundle
    assert raised.value.id == "bundle-architecture"


def test_a_removed_bundle_is_deleted_and_forgotten_everywhere(home: Path, watched: Watched) -> None:
    cache = home / "cache" / "labctl"
    cached = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(cached)
    cached.folder.rename(home / "other disk")
    cached.folder.symlink_to(home / "other disk")
    for other in (cached.id, "kubernetes-1.36.0"):
        (cache / "bundles" / f".removed-{other}" / "bin").mkdir(parents=True)
    forgotten = []

    (folder,) = bundles.require_removable([cached.id, cached.id], cache)
    bundles.remove(folder, cache, watched.report, [lambda removed, _report: forgotten.append(removed)])

    assert forgotten == [cached.id]
    assert not (home / "other disk").exists()
    assert [path.name for path in (cache / "bundles").iterdir()] == [".removed-kubernetes-1.36.0"]


@pytest.fixture
def mixed_cache(home: Path) -> Path:
    """A cache with bundles that cannot be read for different reasons, a readable one, and other files."""
    cache = home / "cache" / "labctl"
    for identity in ("good", "other-id", "half-image"):
        write(replace(bundle(cache / "bundles" / identity), id=identity.replace("other-", "")))
    image = cache / "bundles" / "half-image" / "machine" / "machine.yaml"
    image.parent.mkdir()
    image.write_text("schema: 9")
    unreadable = {"damaged": b"{", "binary": b"\xff\0", "newer": b"schema: 99", "empty": b""}
    for name, content in {**unreadable, "damaged.partial": b"{", ".removed-damaged": b"{"}.items():
        description = cache / "bundles" / name / "bundle.yaml"
        description.parent.mkdir()
        description.write_bytes(content)
    (cache / "bundles" / "folder" / "bundle.yaml").mkdir(parents=True)
    return cache


UNREADABLE = {
    "damaged": "bundle-unreadable",
    "binary": "bundle-unreadable",
    "folder": "bundle-unreadable",
    "newer": "bundle-schema",
    "empty": "bundle-schema",
}


def test_unreadable_bundles_are_listed_as_problems_with_the_readable_ones(mixed_cache: Path) -> None:
    report = bundles.list_cache(mixed_cache)

    assert {each["id"]: each["boxes"] for each in report["bundles"]} == {"good": [], "half-image": []}
    problems = {each["bundle"]: each for each in report["problems"]}
    assert {name: each["id"] for name, each in problems.items()} == {
        **UNREADABLE,
        "half-image": "machine-image-schema",
    }
    for name, problem in problems.items():
        assert problem["folder"] == str(mixed_cache / "bundles" / name)
        assert problem["folder"] in problem["text"]
        assert (f"labctl bundle remove {name}" in problem["fix"]) is (name in UNREADABLE)
    assert NEWER in problems["newer"]["fix"]


@pytest.mark.parametrize("name", [*UNREADABLE, "half-image"])
def test_an_unreadable_bundle_is_removed_by_the_name_of_its_folder(
    mixed_cache: Path, watched: Watched, name: str
) -> None:
    others = {path.name for path in (mixed_cache / "bundles").iterdir()} - {name}
    forgotten = []

    (folder,) = bundles.require_removable([name], mixed_cache)
    bundles.remove(folder, mixed_cache, watched.report, [lambda removed, _report: forgotten.append(removed)])

    assert forgotten == [name]
    # Leftovers of a killed run that removed the same bundle are removed too.
    assert {path.name for path in (mixed_cache / "bundles").iterdir()} == others - {f".removed-{name}"}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_bundle_that_a_lab_uses_is_not_removed(mixed_cache: Path, watched: Watched, name: str) -> None:
    folder = mixed_cache / "bundles" / name
    saved_lab.write(
        saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), isolated=False, bundle=folder)
    )

    with pytest.raises(UsageError, match="school") as used:
        bundles.require_removable([name], mixed_cache)
    with pytest.raises(UsageError):
        bundles.remove(folder, mixed_cache, watched.report)

    assert used.value.id == "bundle-in-use"
    assert folder.exists()


def test_all_bundles_are_verified_and_each_damaged_one_is_reported(mixed_cache: Path, watched: Watched) -> None:
    with pytest.raises(MissingError) as raised:
        bundles.verify(None, mixed_cache, watched.report)

    lines = (raised.value.message, *raised.value.details)
    assert raised.value.id in UNREADABLE.values()
    assert all(sum(f"/{name}/" in each for each in lines) == 1 for name in [*UNREADABLE, "half-image"]), lines
    assert not any("/good/" in each for each in lines)


def test_a_bundle_in_use_or_an_unknown_one_is_not_removed(home: Path) -> None:
    cache = home / "cache" / "labctl"
    cached = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(cached)
    saved_lab.write(
        saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), isolated=False, bundle=cached.folder)
    )

    with pytest.raises(UsageError, match="school") as used:
        bundles.require_removable([cached.id], cache)
    with pytest.raises(MissingError, match="kubernetes-0") as unknown:
        bundles.require_removable([cached.id, "kubernetes-0"], cache)

    assert (used.value.id, unknown.value.id) == ("bundle-in-use", "bundle-not-found")
    assert cached.folder.exists()
