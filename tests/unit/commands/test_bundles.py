"""Which bundles there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Watched, bundle, lab

from labctl.bundle.format import write
from labctl.commands import bundles
from labctl.config import saved_lab
from labctl.model.errors import MissingError, UsageError

pytestmark = pytest.mark.usefixtures("home")


def test_bundles_are_those_in_the_cache(home: Path) -> None:
    made = bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2")
    write(made)

    (described,) = bundles.listed(home / "cache" / "labctl")

    assert (described["id"], described["kubernetes"], described["traefik"]) == ("kubernetes-1.37.2", "1.37.2", None)
    assert described["folder"] == str(made.folder)


def test_a_bundle_is_verified_wherever_it_is(home: Path, watched: Watched) -> None:
    made = bundle(home / "stick")
    write(made)
    assert [found["id"] for found in bundles.verified(made.folder, home / "cache", watched.report)] == [made.id]

    made.path("base/node.tar").write_bytes(b"x")
    with pytest.raises(MissingError, match=r"base/node\.tar"):
        bundles.verified(made.folder, home / "cache", watched.report)


def test_a_bundle_is_removed_whole_with_what_others_keep_of_it(home: Path, watched: Watched) -> None:
    cache = home / "cache" / "labctl"
    made = bundle(cache / "bundles" / "kubernetes-1.37.2")
    write(made)
    forgotten = []

    (found,) = bundles.removable([made.id, made.id], cache)
    bundles.remove(found, cache, watched.report, [lambda gone, _report: forgotten.append(gone.id)])

    assert forgotten == [made.id]
    assert list((cache / "bundles").iterdir()) == []


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
