"""Which bundles there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Watched, bundle

from labctl.bundle import inventory
from labctl.bundle.format import write
from labctl.model.errors import MissingError

pytestmark = pytest.mark.usefixtures("home")


def test_bundles_are_those_in_the_cache(home: Path) -> None:
    made = bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2")
    write(made)

    (described,) = inventory.listed(home / "cache" / "labctl")

    assert (described["id"], described["kubernetes"], described["traefik"]) == ("kubernetes-1.37.2", "1.37.2", None)
    assert described["folder"] == str(made.folder)


def test_a_bundle_is_verified_wherever_it_is(home: Path, watched: Watched) -> None:
    made = bundle(home / "stick")
    write(made)
    assert [found["id"] for found in inventory.verified(made.folder, home / "cache", watched.report)] == [made.id]

    made.path("base/node.tar").write_bytes(b"x")
    with pytest.raises(MissingError, match=r"base/node\.tar"):
        inventory.verified(made.folder, home / "cache", watched.report)
