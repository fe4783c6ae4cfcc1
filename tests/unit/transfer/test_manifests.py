"""What an image's configuration says it is for."""

from __future__ import annotations

import pytest

from labctl.model.errors import LabError
from labctl.transfer import manifests
from labctl.transfer.reference import parse


@pytest.mark.parametrize(
    ("config", "said"),
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
def test_an_image_is_for_the_platform_of_its_configuration(config: bytes, said: str) -> None:
    if not said:
        manifests.require_architecture(parse("quay.io/a/b:1"), config, "amd64")
        return
    with pytest.raises(LabError) as failed:
        manifests.require_architecture(parse("quay.io/a/b:1"), config, "amd64")
    assert (failed.value.id, said in failed.value.message) == ("architecture-missing", True)
