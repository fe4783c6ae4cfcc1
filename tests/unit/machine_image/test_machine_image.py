"""The layout and content of machine images."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import stat
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import Watched, bundle

from labctl import machine_image
from labctl.bundle.build import makers
from labctl.bundle.format import File
from labctl.machine_image import boxes, build, disk, failures, initrd
from labctl.machine_image.format import DESCRIPTION, FOLDER, LIBVIRT_BOX, Disk, MachineImage, catalogue, write
from labctl.model.errors import LabError, MissingError

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
VSSD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData}"


@pytest.fixture
def image(tmp_path: Path) -> MachineImage:
    described_bundle = bundle(tmp_path / "bundle")
    (described_bundle.folder / FOLDER).mkdir()
    content = b"a box"
    described_bundle.path(LIBVIRT_BOX).write_bytes(content)
    file = File(LIBVIRT_BOX, hashlib.sha256(content).hexdigest(), len(content), "a disk")
    described = MachineImage(
        described_bundle.folder, described_bundle.id, "1.37.2.7", "6.12", "d" * 64, Disk(20, 1, "q" * 64), (file,)
    )
    write(described, described_bundle.path(FOLDER))
    return described


def test_the_partitions_do_not_overlap_and_fill_the_disk() -> None:
    lines = disk.partition_table("an id").splitlines()
    parts = [tuple(map(int, re.findall(r"(?:start|size)=(\d+)", line))) for line in lines if line.startswith("start")]

    assert [parts[0][0] * disk.SECTOR, parts[0][1] * disk.SECTOR] == [1 << 20, 48 << 20]
    assert parts[1][0] == sum(parts[0])
    assert sum(parts[1]) * disk.SECTOR == disk.CAPACITY == 20 << 30
    assert lines == disk.partition_table("an id").splitlines() != disk.partition_table("another").splitlines()


def test_the_last_console_option_is_the_serial_console() -> None:
    assert re.findall(r"console=(\S+)", disk.OPTIONS)[-1] == "ttyS0"


@pytest.mark.parametrize("holes", [True, False])
def test_the_checksum_of_a_disk_does_not_depend_on_holes(tmp_path: Path, *, holes: bool) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.write(b"begin" + (b"" if holes else bytes(3 * disk.MIB - 5)))
        file.seek(3 * disk.MIB)
        file.write(b"data")
        file.truncate(5 * disk.MIB)
    reference = hashlib.sha256(str(5 * disk.MIB).encode())
    reference.update(b"0\0" + b"begin".ljust(disk.MIB, b"\0") + b"3\0" + b"data".ljust(disk.MIB, b"\0"))

    assert disk.content_sha256(path) == reference.hexdigest()


def test_an_initrd_is_a_reproducible_cpio_archive() -> None:
    entries = [initrd.Entry("bin", stat.S_IFDIR | 0o755), initrd.Entry("bin/x", stat.S_IFREG | 0o755, b"12345")]
    archive = initrd.cpio(entries)

    assert archive == initrd.cpio(entries)
    assert len(archive) % 512 == 0
    assert archive.startswith(b"070701" + b"00000001" + b"000041ed" + b"00000000" * 2 + b"00000001" + b"00000000" * 2)
    assert archive.count(b"070701") == 3
    start = archive.index(b"bin/x\0") + 6
    start += -start % 4
    assert archive[start : start + 8] == b"12345\0\0\0"


def test_modules_are_loaded_after_their_dependencies(tmp_path: Path) -> None:
    modules = {"ext4": "jbd2,crc16", "jbd2": "", "crc16": "", "e1000": ""}
    for name, needed in modules.items():
        content = b"\x7fELF\0depends=" + needed.encode() + b"\0name=" + name.encode() + b"\0"
        (tmp_path / f"{name}.ko.xz").write_bytes(lzma.compress(content))
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio-pci.ko\n")

    assert list(initrd.load_order(tmp_path, ("virtio_pci", "ext4", "e1000"))) == ["jbd2", "crc16", "ext4", "e1000"]
    with pytest.raises(MissingError) as refused:
        initrd.load_order(tmp_path, ("isofs",))
    assert refused.value.id == "kernel-module-missing"


def test_the_ovf_follows_ovf_1_0_and_describes_virtualboxs_hardware() -> None:
    envelope = ET.fromstring(boxes.ovf("kubernetes-1.37.2-amd64-e67446f6", 1234))  # noqa: S314 - of labctl's own
    sections = [child.tag.removeprefix(OVF) for child in envelope]
    (file,), (disk_entry,) = envelope.iter(f"{OVF}File"), envelope.iter(f"{OVF}Disk")
    items = list(envelope.iter(f"{OVF}Item"))

    def of_type(number: int) -> list[ET.Element]:
        return [item for item in items if item.findtext(f"{RASD}ResourceType") == str(number)]

    assert envelope.tag == f"{OVF}Envelope"
    assert sections == ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    for section in envelope.iter():  # every section starts with its Info
        if section.tag.endswith("Section") or section.tag == f"{OVF}VirtualSystem":
            assert section[0].tag == f"{OVF}Info"
    assert (file.get(f"{OVF}href"), file.get(f"{OVF}size")) == (boxes.VMDK, "1234")
    assert disk_entry.get(f"{OVF}fileRef") == file.get(f"{OVF}id")
    assert disk_entry.get(f"{OVF}capacity") == str(disk.CAPACITY)
    assert disk_entry.get(f"{OVF}format", "").endswith("#streamOptimized")
    assert envelope.findtext(f".//{VSSD}VirtualSystemType") == "virtualbox-2.2"
    assert [kind.get(f"{OVF}id") for kind in envelope.iter(f"{OVF}OperatingSystemSection")] == ["96"]
    # Whoever does not know an element of another namespace may only ignore it if it is marked so.
    others = [each for each in envelope.iter() if not each.tag.startswith((OVF, RASD, VSSD))]
    assert [each.get(f"{OVF}required") for each in others] == ["false"] * len(others)
    # As the CIM schema requires, the elements of an Item are in alphabetical order; ids are unique, and parents exist.
    for item in items:
        assert [child.tag for child in item] == sorted(child.tag for child in item)
        assert {f"{RASD}ElementName", f"{RASD}InstanceID", f"{RASD}ResourceType"} <= {child.tag for child in item}
    ids = [item.findtext(f"{RASD}InstanceID") for item in items]
    assert len(set(ids)) == len(ids)
    assert {item.findtext(f"{RASD}Parent") for item in items} - {None} <= set(ids)
    (controller,), (drive,) = of_type(20), of_type(17)
    assert controller.findtext(f"{RASD}ResourceSubType") == "AHCI"
    assert drive.findtext(f"{RASD}Parent") == controller.findtext(f"{RASD}InstanceID")
    assert drive.findtext(f"{RASD}HostResource") == f"ovf:/disk/{disk_entry.get(f'{OVF}diskId')}"
    networks = {network.get(f"{OVF}name") for network in envelope.iter(f"{OVF}Network")}
    assert [card.findtext(f"{RASD}ResourceSubType") for card in of_type(10)] == ["E1000", "E1000"]
    assert {card.findtext(f"{RASD}Connection") for card in of_type(10)} == networks
    assert (len(of_type(3)), len(of_type(4))) == (1, 1)


@pytest.mark.parametrize("drawn", [b"12345678", b"2345678", b"8"])
def test_only_the_content_id_of_a_vmdk_is_replaced(tmp_path: Path, drawn: bytes) -> None:
    path = tmp_path / "x.vmdk"

    def with_id(identity: bytes) -> bytes:
        text = b"# Disk DescriptorFile\nversion=1\nCID=" + identity + b"\nparentCID=ffffffff\n"
        return b"KDMV" + bytes(508) + text.ljust(1024, b"\0") + b"grains"

    path.write_bytes(with_id(drawn))

    boxes.set_content_id(path, 0xBEEF)

    assert path.read_bytes() == with_id(b"0000beef")
    path.write_bytes(b"no descriptor")
    with pytest.raises(MissingError) as refused:
        boxes.set_content_id(path, 1)
    assert refused.value.id == "machine-image-damaged"


def test_a_version_has_only_numbers_and_depends_on_the_content(tmp_path: Path) -> None:
    described_bundle = bundle(tmp_path)
    assert re.fullmatch(r"1\.37\.2\.\d+", build.version_of(described_bundle, "a"))
    assert (
        build.version_of(described_bundle, "a")
        == build.version_of(described_bundle, "a")
        != build.version_of(described_bundle, "b")
    )


def test_the_catalogue_lists_the_boxes_under_a_given_base_url(image: MachineImage) -> None:
    listed = json.loads(catalogue(image, "https://boxes.example/"))
    (version,) = listed["versions"]
    (provider,) = version["providers"]

    assert (listed["name"], version["version"]) == (machine_image.box_name(image.bundle_id), image.version)
    assert provider["url"] == "https://boxes.example/libvirt.box"
    assert (provider["name"], provider["checksum"]) == ("libvirt", image.files[0].sha256)
    assert (provider["checksum_type"], provider["architecture"]) == ("sha256", "amd64")
    assert (
        json.loads(image.path("machine/metadata.json").read_text())["versions"][0]["providers"][0]["url"]
        == "libvirt.box"
    )


def test_a_written_machine_image_is_loaded_unchanged(image: MachineImage) -> None:
    described_bundle = bundle(image.folder)
    assert machine_image.load(described_bundle) == image
    image.path(DESCRIPTION).unlink()
    assert machine_image.load(described_bundle) is None


@pytest.mark.parametrize(
    ("change", "identity"),
    [
        (("schema: 1", "schema: 9"), "machine-image-schema"),
        (("bundle_id: ", "bundle_id: not-"), "machine-image-schema"),
        (("machine/libvirt.box", "../../x"), "machine-image-schema"),
        (("files:", "file:"), "machine-image-schema"),
        (("schema: 1", "schema: ["), "machine-image-unreadable"),
        (("schema: 1", "schema: 2026-99-99"), "machine-image-unreadable"),
    ],
)
def test_a_damaged_description_is_refused(image: MachineImage, change: tuple[str, str], identity: str) -> None:
    path = image.path(DESCRIPTION)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(MissingError) as refused:
        machine_image.load(bundle(image.folder))
    assert refused.value.id == identity


@pytest.mark.parametrize("file", [LIBVIRT_BOX, "machine/metadata.json"])
def test_a_damaged_file_is_named(image: MachineImage, tmp_path: Path, watched: Watched, file: str) -> None:
    described_bundle = bundle(image.folder)
    machine_image.verify(described_bundle, image, tmp_path, watched.report)
    image.path(file).write_bytes(b"other")
    with pytest.raises(MissingError, match=re.escape(file)) as refused:
        machine_image.verify_once(described_bundle, image, tmp_path, watched.report)
    assert refused.value.id == "machine-image-damaged"


@pytest.mark.parametrize(
    ("subordinate_ids", "is_refused"),
    [
        ("ada:100000:65536\n", False),
        ("1000:100000:65536\n", False),
        ("ada:100000:1000\n", True),
        ("bob:1:65536\n", True),
        (None, True),
    ],
)
def test_missing_subordinate_ids_are_reported_with_a_usermod_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subordinate_ids: str | None, *, is_refused: bool
) -> None:
    paths = (tmp_path / "subuid", tmp_path / "subgid")
    for path in paths if subordinate_ids else ():
        path.write_text(subordinate_ids or "")
    monkeypatch.setattr(failures, "_SUBORDINATE", paths)
    problem = None
    try:
        failures._check_subordinate_ids("ada", 1000)
    except LabError as error:
        problem = error
    assert (problem is not None) is is_refused
    assert problem is None or (problem.id == "subordinate-ids-missing" and "usermod" in problem.hint)


def test_a_machine_without_the_tools_is_told_what_to_install_or_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(makers, "missing_packages", lambda: ["mmdebstrap"])
    described_bundle = bundle(tmp_path)
    with pytest.raises(MissingError) as refused:
        failures.check_machine(described_bundle)

    assert refused.value.id == "tools-missing"
    assert f"{described_bundle.id} has no machine image" in refused.value.message
    assert "apt-get install mmdebstrap`" in refused.value.hint
    assert "`labctl bundle build --with vm`" in refused.value.hint


def test_another_architecture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(MissingError) as refused:
        failures.check_machine(bundle(tmp_path))
    assert refused.value.id == "architecture-unsupported"


@pytest.mark.parametrize(("folder", "is_rebuilt"), [("bundles", True), ("stick", False)])
def test_a_complete_image_of_another_recipe_is_rebuilt_only_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, folder: str, is_rebuilt: bool
) -> None:
    described_bundle = bundle(tmp_path / folder / "a-bundle")
    described_bundle.path(FOLDER).mkdir()
    described_bundle.path(LIBVIRT_BOX).write_bytes(b"a box")
    file = File(LIBVIRT_BOX, hashlib.sha256(b"a box").hexdigest(), 5, "a disk")
    image = MachineImage(
        described_bundle.folder, described_bundle.id, "1.37.2.7", "6.12", "d" * 64, Disk(20, 1, "q" * 64), (file,)
    )
    write(image, described_bundle.path(FOLDER))
    again = replace(image, version=build.version_of(described_bundle, image.data))
    monkeypatch.setattr(build, "_make_image", lambda *_: again)
    monkeypatch.setattr(build, "find_tools", lambda *_: None)
    monkeypatch.setattr(build, "check_machine", lambda _: None)

    assert build.build(described_bundle, tmp_path, lambda _: None) == (again if is_rebuilt else image)
