"""Boxes of libvirt machines whose bytes are not the bundle's."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Watched

from labctl.machine_image.format import Disk, MachineImage
from labctl.model.errors import ProviderError
from labctl.providers import libvirt_images, vagrant_boxes
from labctl.providers.libvirt_images import LibvirtImages
from labctl.providers.libvirt_volumes import Pool, Volume


@pytest.mark.parametrize(("added", "is_refused"), [([True], False), ([False, True], False), ([False, False], True)])
def test_a_box_with_other_bytes_is_added_again_and_never_uploaded(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch, added: list[bool], *, is_refused: bool
) -> None:
    image = MachineImage(tmp_path, "kubernetes-1.37.2", "1.37.2.1", "6.12", "", Disk(20 << 30, 1, "right"), ())
    uploaded: list[str] = []
    boxes = iter("right" if each else "wrong" for each in added)
    again: list[str] = []
    monkeypatch.setattr(libvirt_images, "_checksum", lambda _image: next(boxes))
    monkeypatch.setattr(libvirt_images, "_remember", lambda _stored, _image: None)
    monkeypatch.setattr(vagrant_boxes, "add", lambda _image, provider, *_rest: again.append(provider))
    monkeypatch.setattr(Pool, "upload", lambda _pool, name, *_rest: uploaded.append(name))
    monkeypatch.setattr(Pool, "described", lambda _pool, name: Volume(name, "/pool", ""))

    upload = LibvirtImages(tmp_path, {})._upload
    if is_refused:
        with pytest.raises(ProviderError) as refused:
            upload(Pool(), "image", image, watched.report)
        assert refused.value.id == "box-damaged"
    else:
        upload(Pool(), "image", image, watched.report)

    assert again == ["libvirt"] * (len(added) - 1)
    assert uploaded == ([] if is_refused else ["image"])
