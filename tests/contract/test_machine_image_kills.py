"""A machine image is complete or absent, however its build ends, and a damaged box is rebuilt."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import Watched, bundle

from labctl import machine_image
from labctl.bundle import Bundle
from labctl.bundle.format import write
from labctl.host import failpoints
from labctl.machine_image import boxes, build, disk, initrd, system
from labctl.machine_image.format import LIBVIRT_BOX, VIRTUALBOX_BOX, Disk, MachineImage
from labctl.machine_image.tools import Tools
from labctl.model.errors import MissingError

BOTH = ("libvirt", "virtualbox")


@pytest.fixture(autouse=True)
def _quick_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace the tools and the disks, which are a few bytes; everything else is real."""
    (tmp_path / "tools" / "tree" / "usr/lib/modules/6.12-test").mkdir(parents=True)
    usage = shutil.disk_usage("/")._replace(free=1 << 40)

    def qcow2(_tools: Tools, raw: Path, target: Path) -> Disk:
        target.write_bytes(raw.read_bytes()[:1000])
        return Disk(disk.CAPACITY, 1000, hashlib.sha256(target.read_bytes()).hexdigest())

    replaced = {
        (system, "make"): lambda _bundle, _tools, target: target.write_bytes(b"a system"),
        (disk, "make"): lambda _tools, _system, _initrd, _id, target: target.write_bytes(b"a disk" * 999),
        (boxes, "make_qcow2"): qcow2,
        (boxes, "make_vmdk"): lambda _tools, _box, identity, target: target.write_text(f"vmdk {identity}"),
        (initrd, "make"): lambda _tools: b"initrd",
        (build, "find_tools"): lambda _cache, _report: Tools(tmp_path / "tools"),
        (build, "check_machine"): lambda _bundle: None,
        (shutil, "disk_usage"): lambda _folder: usage,
    }
    for (owner, name), stand_in in replaced.items():
        monkeypatch.setattr(owner, name, stand_in)
    yield
    failpoints._POINT = ""


@pytest.fixture
def fake_bundle(tmp_path: Path) -> Bundle:
    carried = bundle(tmp_path / "bundles" / "kubernetes-1.37.2")
    write(carried)
    return carried


def test_a_build_resumes_after_a_kill_before_each_box(tmp_path: Path, fake_bundle: Bundle) -> None:
    description = fake_bundle.path("bundle.yaml").read_bytes()
    for box in (1, 1, 2):  # the first two builds leave nothing, the third leaves the libvirt box
        pid = os.fork()
        if pid == 0:
            failpoints._POINT, failpoints._left = "machine-image", box
            build.build(fake_bundle, tmp_path, _ignore, BOTH)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        image = machine_image.load(fake_bundle)
        assert (image.providers if image else ()) == BOTH[: box - 1]

    image = build.build(fake_bundle, tmp_path, _ignore, BOTH)

    machine_image.verify(fake_bundle, image, tmp_path, _ignore)
    assert not [path.name for path in fake_bundle.folder.iterdir() if path.name.startswith(".")]
    assert {path.name for path in fake_bundle.path("machine").iterdir()} == {
        *("libvirt.box", "virtualbox.box", "metadata.json", "machine.yaml")
    }
    assert fake_bundle.path("bundle.yaml").read_bytes() == description
    assert build.build(fake_bundle, tmp_path, _ignore, BOTH) == image


def test_time_and_size_are_told_before_each_build_and_the_content_id_is_the_bundles(
    tmp_path: Path, fake_bundle: Bundle, watched: Watched
) -> None:
    build.build(fake_bundle, tmp_path, watched.report, BOTH)

    told = [number for number, text in enumerate(watched.texts) if not text.startswith("machine image: ")]
    disk_line, box_line = (watched.texts[number] for number in told)
    assert told[0] == 0
    assert f"about {build.SECONDS} s, and {build.MIB} MiB in {fake_bundle.folder}" in disk_line
    assert f"about {build.VMDK_SECONDS} s, and {build.MIB} MiB in {fake_bundle.folder}" in box_line
    identity = int(hashlib.sha256(fake_bundle.id.encode()).hexdigest()[:8], 16)
    with tarfile.open(fake_bundle.path(VIRTUALBOX_BOX)) as box:
        vmdk = box.extractfile(boxes.VMDK)
        assert vmdk is not None
        assert vmdk.read().decode() == f"vmdk {identity}"

    watched.texts.clear()
    build.build(fake_bundle, tmp_path, watched.report, BOTH)
    assert watched.texts == []


@pytest.mark.parametrize("damaged", [LIBVIRT_BOX, VIRTUALBOX_BOX, "machine/metadata.json"])
def test_a_damaged_file_is_rebuilt(tmp_path: Path, fake_bundle: Bundle, damaged: str) -> None:
    image = build.build(fake_bundle, tmp_path, _ignore, BOTH)
    fake_bundle.path(damaged).write_bytes(b"")

    again = build.build(fake_bundle, tmp_path, _ignore, BOTH)

    assert again == image
    machine_image.verify(fake_bundle, again, tmp_path, _ignore)


@pytest.mark.parametrize(("number", "identity"), [(errno.ENOSPC, "disk-full"), (errno.EROFS, "bundle-not-writable")])
def test_a_disk_that_cannot_be_written_is_an_error_and_leaves_nothing(
    tmp_path: Path, fake_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, number: int, identity: str
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    with monkeypatch.context() as patched:
        patched.setattr(disk, "make", refuse)
        with pytest.raises(MissingError) as refused:
            build.build(fake_bundle, tmp_path, _ignore)
    assert refused.value.id == identity
    assert machine_image.load(fake_bundle) is None
    assert not [
        path.name for path in fake_bundle.folder.iterdir() if path.name.startswith(".") or path.name == "machine"
    ]

    assert isinstance(build.build(fake_bundle, tmp_path, _ignore), MachineImage)


def test_a_failed_tool_is_an_error_with_its_last_lines(
    tmp_path: Path, fake_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise MissingError("`mmdebstrap trixie` ended with exit code 25", id="tool-failed", details=("no mirror",))

    monkeypatch.setattr(system, "make", fail)
    with pytest.raises(MissingError) as refused:
        build.build(fake_bundle, tmp_path, _ignore)
    assert (refused.value.id, refused.value.details[-1]) == ("machine-image-failed", "no mirror")


def _ignore(_text: str) -> None:
    pass
