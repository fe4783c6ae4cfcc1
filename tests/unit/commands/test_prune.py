"""What `prune` removes from the cache, and what it keeps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import bundle, lab

from labctl import ui
from labctl.bundle.choice import own_ids
from labctl.bundle.format import Bundle, write
from labctl.commands.prune import find_prunable, prune
from labctl.config import saved_lab
from labctl.host import locks
from labctl.model.options import GlobalOptions

OPTIONS = GlobalOptions(config_file=None, lab_name=None, output="text", verbosity=-1)


def _add_bundle(cache: Path, name: str, age: int, version: str = "1.37.2", maker: str = "build") -> Bundle:
    plain = bundle(cache / "bundles" / name)
    described = replace(plain, id=name, maker=maker, versions={**plain.versions, "kubernetes": version})
    write(described)
    os.utime(described.path("bundle.yaml"), (10_000 - age, 10_000 - age))
    return described


def test_the_newest_bundles_of_each_kind_and_bundles_in_use_are_kept(home: Path) -> None:
    cache = home / "cache" / "labctl"
    _add_bundle(cache, "newest", 1)
    used = _add_bundle(cache, "used", 2)
    _add_bundle(cache, "old", 3, version="1.37.1")
    _add_bundle(cache, "other-minor", 4, version="1.36.4")
    _add_bundle(cache, "downloaded", 5, maker="download")
    saved_lab.write(saved_lab.folder_of("school"), saved_lab.SavedLab(lab(name="school"), False, used.folder))
    own = [
        _add_bundle(cache, identity, 20, version="1.37.0", maker="download" if not number else "build")
        for number, identity in enumerate(own_ids())
    ]
    for identity in own_ids():
        (cache / "bundles" / f"{identity}.partial").mkdir()
    (cache / "bundles/worked-on.partial").mkdir()
    for unreadable in ("damaged", "newer"):
        (cache / "bundles" / unreadable).mkdir()
    (cache / "bundles/damaged/bundle.yaml").write_text("{")
    (cache / "bundles/newer/bundle.yaml").write_text("schema: 99")
    abandoned = "bundles/abandoned.partial/base/node.tar"
    (home / "other disk").mkdir()
    (cache / "blobs").symlink_to(home / "other disk")
    for path in ("blobs/sha256/0", "bundles/.incoming-x/base/node.tar", abandoned):
        (cache / path).parent.mkdir(parents=True)
        (cache / path).write_bytes(b"x" * 5000)
    os.link(used.path("base/node.tar"), cache / "blobs/sha256/1")

    with locks.exclusive(cache / "bundles/worked-on.lock", pytest.fail, timeout=0):
        prunable = find_prunable(cache)

    assert [each.id for each in prunable.bundles] == ["old"]
    assert {each.folder.name for each in prunable.unreadable} == {"damaged", "newer"}
    assert {path.name for path in prunable.others} == {"blobs", ".incoming-x", "abandoned.partial"}
    old = sum(path.stat().st_blocks * 512 for path in (cache / "bundles/old").rglob("*") if path.is_file())
    assert prunable.size == old + 3 * 8192

    (cache / "bundles/worked-on.partial").rmdir()
    prune(OPTIONS, ui.watching(OPTIONS))

    assert {path.name for path in (cache / "bundles").iterdir() if path.is_dir()} == {
        *("newest", "used", "other-minor", "downloaded", "damaged", "newer"),
        *(name for each in own for name in (each.id, f"{each.id}.partial")),
    }
    assert not os.path.lexists(cache / "blobs")
    assert not (home / "other disk").exists()
    assert find_prunable(cache).text == "nothing"
