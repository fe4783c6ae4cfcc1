"""The choice of a manifest from an index, also with nested indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from labctl.transfer.documents import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST
from labctl.transfer.indexes import best, listed, resolve_platform

AMD64, ARM64 = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
ABOUT = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}

Described = dict[str, Any]


def _manifest(name: str, **more: object) -> Described:
    return {"mediaType": IMAGE_MANIFEST, "digest": name, **more}


def _index(*manifests: Described, **more: object) -> Described:
    return {"mediaType": IMAGE_INDEX, "digest": "index", "is": {"manifests": manifests}, **more}


def _manifest_with_config(name: str, architecture: str, kind: str = IMAGE_CONFIG) -> Described:
    """Return a manifest without a platform, which its configuration has."""
    config = {"mediaType": kind, "is": {"architecture": architecture}}
    return _manifest(name, **{"is": {"config": config}})


def _read(described: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any document
    """Return the document that a descriptor of these tests contains."""
    return described["is"]


@pytest.mark.parametrize(
    ("manifests", "expected"),
    [
        ([_manifest("a", platform=ARM64), _manifest("b", platform=AMD64)], "b"),
        ([_manifest("a", platform=AMD64 | {"variant": "v3"}), _manifest("b", platform=AMD64)], "b"),
        ([_manifest("a", platform=AMD64 | {"variant": "v3"}), _manifest("b", platform=AMD64 | {"variant": "v2"})], "b"),
        ([_index(_manifest("a", platform=ARM64), _manifest("b", platform=AMD64))], "b"),
        ([_index(_index(_manifest("b", platform=AMD64)))], "b"),
        ([_index(_manifest("a", platform=AMD64)), _manifest("b", platform=AMD64)], "b"),
        ([_index(_manifest("a", **ABOUT), _manifest("b"), platform=AMD64)], "b"),
        ([_index(_manifest("a", platform=UNKNOWN), _manifest("b", platform=AMD64), platform=AMD64)], "b"),
        ([{"mediaType": IMAGE_INDEX, "digest": "a", "platform": ARM64}, _manifest("b", platform=AMD64)], "b"),
        ([_manifest_with_config("a", "arm64"), _manifest_with_config("b", "amd64")], "b"),
        ([_manifest_with_config("a", "amd64", "application/spdx+json"), _manifest_with_config("b", "amd64")], "b"),
        ([_manifest("a", platform=UNKNOWN)], None),
        ([_manifest("a", platform={"os": "windows", "architecture": "amd64"})], None),
        ([], None),
    ],
)
def test_the_manifest_of_the_platform_is_selected(manifests: list[Described], expected: str | None) -> None:
    entries = [resolve_platform(each, _read) for each in listed({"manifests": manifests}, "linux/amd64", _read)]
    chosen = best(entries, "linux/amd64")

    assert (chosen and chosen.described["digest"]) == expected


def _index_of_itself() -> Described:
    index = _index()
    index["is"]["manifests"] = [index, index]
    return index


def _nested_index() -> Described:
    index = _index(_manifest("a", platform=AMD64))
    for _ in range(100):
        index = _index(index)
    return index


@pytest.mark.parametrize("index", [_index_of_itself(), _nested_index()], ids=["cycle", "deep"])
def test_endlessly_nested_indexes_are_refused(index: Described) -> None:
    with pytest.raises(ValueError, match="nested"):
        list(listed(index["is"], "linux/amd64", _read))
