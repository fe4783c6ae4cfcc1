"""Pushes that compete for the index of a tag."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from labctl.bundle.layout import ARTIFACT, Artefact
from labctl.bundle.oci.push import push
from labctl.model.errors import MissingError
from labctl.transfer.documents import IMAGE_INDEX, IMAGE_MANIFEST, Document, serialise
from labctl.transfer.reference import Reference, parse
from labctl.transfer.registry import Registry

ARTEFACT = Artefact("a", "amd64", serialise(IMAGE_MANIFEST, {"artifactType": ARTIFACT}), {}, ())


class ContendedRegistry:
    """A registry in which another push replaces the first indexes that are written."""

    def __init__(self, replaced: int) -> None:
        self.replaced = replaced
        self.index: Document | None = None
        self.writes = 0

    def stop(self) -> None:
        """Stop nothing."""

    def manifest(self, _reference: Reference, _scope: str) -> Document:
        if self.index is None:
            raise MissingError("no such tag", id="tag-not-found")
        return self.index

    def put_manifest(self, reference: Reference, document: Document) -> None:
        if reference.digest:
            return
        self.writes += 1
        self.index = document if self.writes > self.replaced else serialise(IMAGE_INDEX, {"manifests": []})


@pytest.mark.parametrize("replaced", [0, 1, 3])
def test_a_push_succeeds_if_one_of_its_writes_is_kept(tmp_path: Path, replaced: int) -> None:
    registry = ContendedRegistry(replaced)

    pushed = push(ARTEFACT, parse("ghcr.io/a/b:1"), cast("Registry", registry), tmp_path, lambda _text: None)

    assert registry.index
    assert (pushed.index, pushed.changed, registry.writes) == (registry.index.digest, True, replaced + 1)


def test_a_push_whose_last_write_is_replaced_fails(tmp_path: Path) -> None:
    registry = ContendedRegistry(4)

    with pytest.raises(MissingError) as raised:
        push(ARTEFACT, parse("ghcr.io/a/b:1"), cast("Registry", registry), tmp_path, lambda _text: None)

    assert (raised.value.id, registry.writes) == ("reference-contended", 4)
