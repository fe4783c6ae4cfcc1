"""What happens to a bundle's box when a lab is purged or the bundle is removed."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import pytest
from fakes import FakeCluster, FakeImages, FakeProvider, Watched, with_fakes
from recorded_machine import Recorded

from labctl.bundle.format import write as describe
from labctl.commands import labs
from labctl.context import Context
from labctl.host import lab_folder
from labctl.model.errors import ProviderError
from labctl.model.options import GlobalOptions
from labctl.plans import boxes, teardown, up
from labctl.plans.plan import execute
from labctl.providers.libvirt_images import LibvirtImages
from labctl.providers.table import LIBVIRT

BOX = "labctl/kubernetes-1.37.2"
OPTIONS = GlobalOptions(config_file=None, lab_name=None, output="json", verbosity=0)


class RefusingImages(FakeImages):
    """Images that cannot be removed."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def forget(self, image: str) -> NoReturn:
        raise ProviderError(f"{image}: {self.reason}", id=self.reason)


def _machines_lab(context: Context, provider: FakeProvider) -> Context:
    machines = with_fakes(
        replace(context, lab=replace(context.lab, provider="libvirt")), provider, FakeCluster(), context.bundle
    )
    provider.images.names = {BOX, "labctl/another"}
    return machines


def test_purge_of_an_earlier_destroyed_lab_removes_its_box(
    context: Context, watched: Watched, provider: FakeProvider
) -> None:
    lab = _machines_lab(context, provider)
    describe(context.bundle)
    execute(up.destroy(purge=False, are_containers=False), lab, watched)
    assert boxes.left_box(lab.folder) == ("libvirt", BOX)

    purgeable = labs.removable(OPTIONS, purge=True)
    assert (purgeable.hypervisor, labs.is_destroyed(purgeable)) == (LIBVIRT, True)
    purged = with_fakes(purgeable, provider, FakeCluster(), context.bundle)
    assert execute(up.destroy(purge=True, are_containers=False, is_destroyed=True), purged, watched)
    assert "other boxes: labctl/another" in [event.text for event in watched.events]
    assert (provider.images.names, lab.folder.exists()) == ({"labctl/another"}, False)


def test_a_kept_box_is_ignored_once_the_lab_exists_again(context: Context) -> None:
    boxes.record_left_box(context.folder, "libvirt", BOX)
    (context.folder / lab_folder.RECORD).touch()
    assert boxes.left_box(context.folder) is None


@pytest.mark.parametrize("content", ["", "docker x\n", "libvirt\n", "a b c\n"])
def test_an_invalid_record_of_a_box_is_ignored(context: Context, content: str) -> None:
    (context.folder / lab_folder.BOX).write_text(content)
    assert boxes.left_box(context.folder) is None


@pytest.mark.parametrize("reason", [*boxes.LEFT_BOX, "tool-failed"])
def test_a_box_in_use_or_of_an_unreachable_hypervisor_is_kept(context: Context, watched: Watched, reason: str) -> None:
    vars(context).update(node_images=RefusingImages(reason))
    if reason in boxes.LEFT_BOX:
        outcome = teardown.remove_images(context, watched.report)
        assert (outcome.changed, reason in outcome.text) == (False, True)
    else:
        with pytest.raises(ProviderError, match=reason):
            teardown.remove_images(context, watched.report)


@pytest.mark.parametrize(
    ("listed", "has_libvirt", "reported"),
    [
        ((BOX,), True, [f"libvirt: removed box {BOX}"]),
        ((BOX, "labctl/another"), True, [f"libvirt: removed box {BOX}; other boxes: labctl/another"]),
        (("labctl/another",), True, ["libvirt: other boxes: labctl/another"]),
        ((), True, []),
        ((BOX,), False, []),
    ],
)
def test_boxes_of_a_bundle_are_removed_from_the_installed_hypervisors_and_others_listed(
    context: Context,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    listed: tuple[str, ...],
    reported: list[str],
    *,
    has_libvirt: bool,
) -> None:
    kept = {*listed}
    absent = {"VBoxManage"} | (set() if has_libvirt else {"virsh"})
    monkeypatch.setattr(boxes, "Machine", lambda: Recorded(absent=absent))
    monkeypatch.setattr(boxes, "MACHINES", ("libvirt",))
    monkeypatch.setattr(LibvirtImages, "list", lambda _images: tuple(kept))
    monkeypatch.setattr(LibvirtImages, "forget", lambda _images, name: kept.discard(name))

    boxes.forget_bundle(context.bundle.id, watched.report)

    assert watched.texts == reported
    assert (BOX in kept) is (BOX in listed and not has_libvirt)
