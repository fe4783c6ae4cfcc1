"""Validation of a registry's manifests, and the architecture in an image's configuration."""

from __future__ import annotations

import pytest

from labctl.model.errors import LabError
from labctl.transfer import manifests
from labctl.transfer.documents import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST, image_manifest, serialise
from labctl.transfer.exchange import FullResponse
from labctl.transfer.reference import parse

MANIFEST = image_manifest((IMAGE_CONFIG, f"sha256:{'0' * 64}", 2), [])


@pytest.mark.parametrize(
    ("stated_digest", "identity"),
    [
        (MANIFEST.digest, ""),
        ("", ""),
        ("sha512:00", ""),
        (f"sha256:{'0' * 64}", "digest-mismatch"),
    ],
)
def test_a_manifest_with_another_digest_than_the_registry_states_is_refused(stated_digest: str, identity: str) -> None:
    headers = {"Content-Type": IMAGE_MANIFEST, **({"Docker-Content-Digest": stated_digest} if stated_digest else {})}
    response = FullResponse("https://quay.io/v2/a/b/manifests/1", 200, headers, MANIFEST.content)
    if not identity:
        assert manifests.from_response(parse("quay.io/a/b:1"), response) == MANIFEST
        return
    with pytest.raises(LabError) as failed:
        manifests.from_response(parse("quay.io/a/b:1"), response)
    assert failed.value.id == identity


INDEX = serialise(IMAGE_INDEX, {"manifests": []})
BARE = b'{"config": {"digest": "sha256:%s", "size": 2}, "layers": []}' % (b"0" * 64)


@pytest.mark.parametrize(
    ("stated_type", "content", "media_type"),
    [
        (IMAGE_MANIFEST, INDEX.content, IMAGE_INDEX),
        (f"{IMAGE_INDEX}; charset=utf-8", INDEX.content, IMAGE_INDEX),
        ("application/json", INDEX.content, IMAGE_INDEX),
        ("", INDEX.content, IMAGE_INDEX),
        (IMAGE_MANIFEST, BARE, IMAGE_MANIFEST),
    ],
)
def test_the_media_type_in_a_manifest_overrides_the_content_type_header(
    stated_type: str, content: bytes, media_type: str
) -> None:
    response = FullResponse("https://quay.io/v2/a/b/manifests/1", 200, {"Content-Type": stated_type}, content)
    assert manifests.from_response(parse("quay.io/a/b:1"), response).media_type == media_type


@pytest.mark.parametrize(
    ("config", "other_platform"),
    [
        (b'{"os": "linux", "architecture": "amd64"}', ""),
        (b'{"architecture": "amd64"}', ""),
        (b'{"os": "linux", "architecture": "arm64", "variant": "v8"}', "linux/arm64"),
        (b'{"os": "windows", "architecture": "amd64"}', "windows/amd64"),
        (b"{}", "none"),
        (b"[", "none"),
        (b"[" * 100_000, "none"),
    ],
)
def test_an_image_for_another_platform_is_refused(config: bytes, other_platform: str) -> None:
    if not other_platform:
        manifests.require_architecture(parse("quay.io/a/b:1"), config, "amd64")
        return
    with pytest.raises(LabError) as failed:
        manifests.require_architecture(parse("quay.io/a/b:1"), config, "amd64")
    assert (failed.value.id, other_platform in failed.value.message) == ("architecture-missing", True)
