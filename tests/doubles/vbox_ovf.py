"""The OVF reader of VirtualBox's `import`, with its errors. After upstream's ovfreader and ApplianceImplImport, 7.0."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from vbox_home import VBoxError

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
VSSD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData}"
VBOX = "{http://www.virtualbox.org/ovf/machine}"
MEMORY_UNITS = {"MegaBytes": 1, "MB": 1, "byte * 2^20": 1, "GigaBytes": 1024, "GB": 1024, "byte * 2^30": 1024}
MODES = {mode.casefold(): mode for mode in ("Null", "NAT", "Bridged", "Internal", "HostOnly", "Generic")}
SECTOR = 512


@dataclass(frozen=True)
class Appliance:
    """The one machine of an OVF."""

    name: str
    os_type: str
    cpus: int
    memory: int
    controllers: tuple[tuple[str, str], ...]
    """Instance id and kind, in order."""
    adapters: tuple[tuple[str, str, str], ...]
    """Original network, VirtualBox's attachment and hardware."""
    disk: Path
    disk_id: str
    capacity: int
    format: str
    parent: str
    port: int


def read(path: Path) -> Appliance:
    """Return the machine to import. Raise VBoxError where VirtualBox fails."""
    if path.suffix not in {".ovf", ".ova"}:
        raise _refused("Appliance file must have .ovf or .ova extension")
    try:
        root = ET.fromstring(path.read_bytes())  # noqa: S314 - of this repository
    except (OSError, ET.ParseError) as error:
        raise _refused(f"Failed to open OVF file '{path}': {error}") from error
    if root.tag != f"{OVF}Envelope":
        raise _refused("Root element in OVF file must be 'Envelope'.")
    system = root.find(f"{OVF}VirtualSystem")
    if system is None:
        raise _refused(f'Error reading "{path}": no virtual system')
    items = list(system.iterfind(f"{OVF}VirtualHardwareSection/{OVF}Item"))
    for item in items:
        if not _of(item, "ResourceType") or not _of(item, "InstanceID"):
            raise _refused(f'Error reading "{path}": element InstanceID or ResourceType is absent under Item element')
    disk_item, (file, disk) = _disk(path, root, items)
    controllers = tuple((_of(item, "InstanceID"), kind) for item in items if (kind := _controller(item)))
    if _of(disk_item, "Parent") not in dict(controllers):
        raise _refused(f'Error reading "{path}": Disk item specifies invalid parent "{_of(disk_item, "Parent")}"')
    is_virtualbox = "virtualbox" in (system.findtext(f".//{VSSD}VirtualSystemType") or "").casefold()
    return Appliance(
        name=system.get(f"{OVF}id") or "",
        os_type=_os_type(path, system),
        cpus=int(next((_of(item, "VirtualQuantity") for item in items if _is(item, 3)), "1")),
        memory=next((_memory(path, item) for item in items if _is(item, 4)), 0),
        controllers=controllers,
        adapters=tuple(_adapter(item, is_virtualbox=is_virtualbox) for item in items if _is(item, 10)),
        disk=path.parent / (file.get(f"{OVF}href") or ""),
        disk_id=disk.get(f"{OVF}diskId") or "",
        capacity=_capacity(path, disk),
        format=disk.get(f"{OVF}format") or "",
        parent=_of(disk_item, "Parent"),
        port=int(_of(disk_item, "AddressOnParent") or 0),
    )


def vmdk_capacity(disk: Path) -> int:
    """Return the capacity in the header of a VMDK, in bytes."""
    if not disk.exists():
        raise _refused(f"Could not open the medium '{disk}' (VERR_FILE_NOT_FOUND)")
    with disk.open("rb") as file:
        header = file.read(SECTOR)
    if header[:4] != b"KDMV":
        raise _refused(f"Could not open the medium '{disk}'. VD: error VERR_VD_VMDK_INVALID_HEADER opening image file")
    return int.from_bytes(header[12:20], "little") * SECTOR


def _disk(path: Path, root: ET.Element, items: list[ET.Element]) -> tuple[ET.Element, tuple[ET.Element, ET.Element]]:
    """Return the item of the one disk, with its File and its Disk element."""
    disks = [item for item in items if _is(item, 17)]
    if len(disks) != 1:
        raise _refused(f'Error reading "{path}": {len(disks)} disks')
    host = _of(disks[0], "HostResource")
    wanted = host.removeprefix("ovf:").removeprefix("/disk/")
    for disk in root.iterfind(f"{OVF}DiskSection/{OVF}Disk"):
        if host.startswith(("ovf:/disk/", "/disk/")) and disk.get(f"{OVF}diskId") == wanted:
            reference = disk.get(f"{OVF}fileRef")
            for file in root.iterfind(f"{OVF}References/{OVF}File"):
                if file.get(f"{OVF}id") == reference and file.get(f"{OVF}href"):
                    return disks[0], (file, disk)
            raise _refused(f'Error reading "{path}": cannot find References/File element for ID "{reference}"')
    raise _refused(f'Error reading "{path}": Disk item specifies invalid host resource "{host}"')


def _capacity(path: Path, disk: ET.Element) -> int:
    for name in ("capacity", "format"):
        if not disk.get(f"{OVF}{name}"):
            raise _refused(
                f"Error reading \"{path}\": missing or invalid attribute 'ovf:{name}' in 'DiskSection' element"
            )
    return int(disk.get(f"{OVF}capacity") or 0)  # in bytes: VirtualBox ignores capacityAllocationUnits


def _os_type(path: Path, system: ET.Element) -> str:
    section = system.find(f"{OVF}OperatingSystemSection")
    if section is None or not (section.get(f"{OVF}id") or "").isdigit():
        text = "missing or invalid 'ovf:id' attribute in operating system section element"
        raise _refused(f'Error reading "{path}": {text}')
    return section.findtext(f"{VBOX}OSType") or {"96": "Debian_64", "101": "Linux26_64"}.get(
        section.get(f"{OVF}id") or "", "Other"
    )


def _memory(path: Path, item: ET.Element) -> int:
    units = _of(item, "AllocationUnits")
    if units not in MEMORY_UNITS:
        raise _refused(f'Error reading "{path}": Invalid allocation unit "{units}" specified with memory size item')
    return int(_of(item, "VirtualQuantity")) * MEMORY_UNITS[units]


def _controller(item: ET.Element) -> str:
    if _is(item, 5):
        return "IDE"
    if not _is(item, 20):
        return ""
    if _of(item, "ResourceSubType").casefold() not in {"ahci", "vmware.sata.ahci"}:
        raise _refused('Host resource of type "Other Storage Device (20)" is supported with SATA AHCI controllers only')
    return "SATA"


def _adapter(item: ET.Element, *, is_virtualbox: bool) -> tuple[str, str, str]:
    """Return the network, attachment and hardware of an adapter; a network with an unknown name becomes a bridge."""
    network, kind = _of(item, "Connection"), _of(item, "ResourceSubType").casefold()
    hardware = {"e1000": "82540EM" if is_virtualbox else "82545EM", "virtionet": "virtio"}.get(kind, "82540EM")
    return network, MODES.get(network.casefold(), "Bridged"), hardware


def _is(item: ET.Element, resource: int) -> bool:
    return _of(item, "ResourceType") == str(resource)


def _of(item: ET.Element, name: str) -> str:
    return item.findtext(f"{RASD}{name}") or ""


def _refused(text: str) -> VBoxError:
    return VBoxError(text, "VBOX_E_FILE_ERROR (0x80bb0004)", "ApplianceWrap", "nsISupports")
