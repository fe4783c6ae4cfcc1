"""List, choose and remove bundles."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import VERSIONS, Watched, bundle, lab

from labctl.bundle.choice import booted, own_ids
from labctl.bundle.format import NEWER, write
from labctl.bundle.oci import references
from labctl.commands import bundles
from labctl.config import saved_lab
from labctl.context import Context
from labctl.model.errors import MissingError, UsageError
from labctl.transfer.reference import parse

pytestmark = pytest.mark.usefixtures("home")


def test_bundles_are_those_in_the_cache(home: Path) -> None:
    made = bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2")
    write(made)

    (described,) = bundles.in_cache(home / "cache" / "labctl")["bundles"]

    assert (described["id"], described["kubernetes"], described["traefik"]) == ("kubernetes-1.37.2", "1.37.2", None)
    assert described["folder"] == str(made.folder)


def test_a_bundle_is_verified_wherever_it_is(home: Path, watched: Watched) -> None:
    made = bundle(home / "stick")
    write(made)
    assert [found["id"] for found in bundles.verified(made.folder, home / "cache", watched.report)] == [made.id]

    system, moved = made.path("base/node.tar"), home / "moved"
    system.rename(moved)
    system.symlink_to(moved)
    with pytest.raises(MissingError, match=r"base/node\.tar") as linked:
        bundles.verified(made.folder, home / "cache", watched.report)
    assert linked.value.id == "bundle-linked"

    system.write_bytes(b"x")
    with pytest.raises(MissingError, match=r"base/node\.tar") as damaged:
        bundles.verified(made.folder, home / "cache", watched.report)
    assert damaged.value.id == "bundle-damaged"


def test_a_bundle_is_named_by_its_folder_or_by_the_reference_that_it_was_pulled_as(home: Path) -> None:
    cache = home / "cache"
    made = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(made)

    assert [bundles.named(text, cache) for text in (None, "stick")] == [None, Path("stick")]
    with pytest.raises(MissingError) as raised:
        bundles.named("oci://registry.test/labs:1", cache)
    assert raised.value.id == "bundle-not-pulled"
    references.remember(parse("registry.test/labs:1"), references.Pulled("sha256:0", made.id), cache)
    assert bundles.named("oci://registry.test/labs:1", cache) == made.folder


def test_what_a_plain_up_boots_from_is_what_is_pushed_and_what_stays(home: Path, watched: Watched) -> None:
    cache = home / "cache" / "labctl"
    saved_lab.write(saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), isolated=False))
    download, build = own_ids()
    newest_first: list[tuple[str, dict[str, Any]]] = [
        ("other", {"architecture": "arm64"}),
        ("older", {"versions": {**VERSIONS, "kubernetes": "1.36.0"}}),
    ]
    newest_first += [("imported", {}), (build, {}), (download, {})]
    made = []
    for age, (identity, values) in enumerate(newest_first):
        described = replace(bundle(cache / "bundles" / identity), id=identity, **values)
        write(described)
        os.utime(described.path("bundle.yaml"), (10_000 - age, 10_000 - age))
        made.append(described)

    assert booted(cache, "1.36.0") == cache / "bundles/older"
    for expected in (download, build, "older", "imported"):
        asked = Context(lab(), home, cache)
        assert (asked.bundle.id, bundles.chosen(None, cache).id) == (expected, expected)
        gone = next(each for each in made if each.id == expected)
        assert bundles.users(gone.folder) == ["school"]
        with pytest.raises(UsageError):
            bundles.remove(gone.folder, cache, watched.report)
        shutil.rmtree(gone.folder)
    assert booted(cache) is None
    with pytest.raises(MissingError) as raised:
        _ = Context(lab(), home, cache, cache / "bundles/other").bundle
    assert raised.value.id == "bundle-architecture"


def test_a_bundle_is_removed_whole_with_what_others_keep_of_it(home: Path, watched: Watched) -> None:
    cache = home / "cache" / "labctl"
    made = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(made)
    made.folder.rename(home / "other disk")
    made.folder.symlink_to(home / "other disk")
    for other in (made.id, "kubernetes-1.36.0"):
        (cache / "bundles" / f".removed-{other}" / "bin").mkdir(parents=True)
    forgotten = []

    (found,) = bundles.removable([made.id, made.id], cache)
    bundles.remove(found, cache, watched.report, [lambda gone, _report: forgotten.append(gone)])

    assert forgotten == [made.id]
    assert not (home / "other disk").exists()
    assert [path.name for path in (cache / "bundles").iterdir()] == [".removed-kubernetes-1.36.0"]


@pytest.fixture
def mixed(home: Path) -> Path:
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


def test_bundles_that_cannot_be_read_are_problems_beside_the_others(mixed: Path) -> None:
    report = bundles.in_cache(mixed)

    assert {each["id"]: each["boxes"] for each in report["bundles"]} == {"good": [], "half-image": []}
    problems = {each["bundle"]: each for each in report["problems"]}
    assert {name: each["id"] for name, each in problems.items()} == {
        **UNREADABLE,
        "half-image": "machine-image-schema",
    }
    for name, problem in problems.items():
        assert problem["folder"] == str(mixed / "bundles" / name)
        assert problem["folder"] in problem["text"]
        assert (f"labctl bundle remove {name}" in problem["fix"]) is (name in UNREADABLE)
    assert NEWER in problems["newer"]["fix"]


@pytest.mark.parametrize("name", [*UNREADABLE, "half-image"])
def test_a_bundle_that_cannot_be_read_is_removed_by_the_name_of_its_folder(
    mixed: Path, watched: Watched, name: str
) -> None:
    others = {path.name for path in (mixed / "bundles").iterdir()} - {name}
    forgotten = []

    (folder,) = bundles.removable([name], mixed)
    bundles.remove(folder, mixed, watched.report, [lambda gone, _report: forgotten.append(gone)])

    assert forgotten == [name]
    # Leftovers of a killed run that removed the same bundle are removed too.
    assert {path.name for path in (mixed / "bundles").iterdir()} == others - {f".removed-{name}"}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_bundle_that_cannot_be_read_is_not_removed_from_a_lab(mixed: Path, watched: Watched, name: str) -> None:
    folder = mixed / "bundles" / name
    saved_lab.write(
        saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), isolated=False, bundle=folder)
    )

    with pytest.raises(UsageError, match="school") as used:
        bundles.removable([name], mixed)
    with pytest.raises(UsageError):
        bundles.remove(folder, mixed, watched.report)

    assert used.value.id == "bundle-in-use"
    assert folder.exists()


def test_all_bundles_are_verified_and_each_that_is_not_whole_is_told(mixed: Path, watched: Watched) -> None:
    with pytest.raises(MissingError) as raised:
        bundles.verified(None, mixed, watched.report)

    told = (raised.value.message, *raised.value.details)
    assert raised.value.id in UNREADABLE.values()
    assert all(sum(f"/{name}/" in each for each in told) == 1 for name in [*UNREADABLE, "half-image"]), told
    assert not any("/good/" in each for each in told)


def test_a_bundle_that_a_lab_uses_or_that_is_not_there_is_not_removed(home: Path) -> None:
    cache = home / "cache" / "labctl"
    made = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(made)
    saved_lab.write(
        saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), isolated=False, bundle=made.folder)
    )

    with pytest.raises(UsageError, match="school") as used:
        bundles.removable([made.id], cache)
    with pytest.raises(MissingError, match="kubernetes-0") as unknown:
        bundles.removable([made.id, "kubernetes-0"], cache)

    assert (used.value.id, unknown.value.id) == ("bundle-in-use", "bundle-not-found")
    assert made.folder.exists()
