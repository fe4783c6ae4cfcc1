"""The store of verified blobs."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import NoReturn

import pytest

from labctl.model.errors import MissingError
from labctl.transfer.store import BlobStore

CONTENT = b"content"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.mark.parametrize("same_disk", ["linked", "copied"])
def test_a_blob_is_added_and_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_disk: str) -> None:
    def refuse(_path: Path, _target: Path) -> NoReturn:
        raise OSError(errno.EXDEV, "another disk")

    store, target = BlobStore(tmp_path / "blobs"), tmp_path / "bundle/file"
    partial = store.partial(DIGEST)
    partial.write_bytes(CONTENT)
    store.adopt(partial, DIGEST)
    if same_disk == "copied":
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    for _ in range(2):
        store.place(DIGEST, target)

    assert store.has(DIGEST)
    assert target.read_bytes() == CONTENT
    assert target.samefile(store.path(DIGEST)) == (same_disk == "linked")
    assert not partial.exists()


def test_a_changed_blob_is_removed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    store.partial(DIGEST).write_bytes(CONTENT)
    store.adopt(store.partial(DIGEST), DIGEST)
    assert store.verified(DIGEST) == store.path(DIGEST)
    store.path(DIGEST).write_bytes(b"other")

    with pytest.raises(MissingError) as failed:
        store.verified(DIGEST)

    assert (failed.value.id, str(store.path(DIGEST)) in failed.value.message) == ("blob-damaged", True)
    assert not store.has(DIGEST)
    with pytest.raises(ValueError, match="sha512"):
        store.path("sha512:00")
