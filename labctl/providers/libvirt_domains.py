"""The lab's machines in libvirt: domains that Vagrant creates and labctl identifies by their description."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.host.paths import real
from labctl.providers import virsh
from labctl.providers.protocol import STATE_LABEL


@dataclass(frozen=True, slots=True)
class Domain:
    """A libvirt machine, running or not."""

    name: str
    uuid: str
    kind: str
    """The domain's type: `kvm` or `qemu`."""
    description: str
    disks: tuple[str, ...]
    """The paths of its disks, in order; the seed is a CD, not a disk."""
    interfaces: Mapping[str, str]
    """The MAC of its interface in each network."""

    def belongs_to(self, state: Path) -> bool:
        """Return whether the lab in this state folder created it."""
        return self.description == owner(state)


def owner(state: Path) -> str:
    """Return the description of a lab's machines: its folder without links, as the Vagrantfile sees it."""
    return f"{STATE_LABEL}={real(state)}"


def domains(names: Collection[str]) -> tuple[Domain, ...]:
    """Return the existing machines with these names, whoever created them."""
    existing = virsh.names("list", "--all", "--name").intersection(names)
    return tuple(_domain(element) for element in virsh.descriptions("dom", existing))


def running() -> frozenset[str]:
    """Return the names of all machines that run; paused machines do not."""
    return virsh.names("list", "--state-running", "--name")


def active() -> frozenset[str]:
    """Return the names of all machines that are not shut off."""
    return virsh.names("list", "--name")


def state(name: str) -> str:
    """Return the state of a machine, with the reason, as `virsh domstate` prints it; empty if it does not exist."""
    answer = virsh.run_virsh("domstate", "--reason", name)
    return answer.out.strip() if answer.code == 0 else ""


def remove(domain: Domain) -> None:
    """Remove a machine, and power it off if it runs; its volumes stay."""
    if domain.name in active():
        virsh.run_virsh("destroy", domain.name)  # may fail: the machine may be off by now
    virsh.check_virsh("undefine", domain.uuid, "--managed-save", "--snapshots-metadata", "--nvram")


def change_kind(domain: Domain, kind: str) -> None:
    """Change the domain's type, and remove its processor and emulation settings, which depend on the type.

    Vagrant sets the processor again.
    """
    element = ET.fromstring(virsh.check_virsh("dumpxml", domain.uuid, "--inactive", "--security-info"))  # noqa: S314 - libvirt wrote it
    element.set("type", kind)
    for parent in (element, *element.findall("features")):
        for each in (*parent.findall("cpu"), *parent.findall("tcg")):
            parent.remove(each)
    virsh.check_virsh("define", "/dev/stdin", stdin=ET.tostring(element))


def _domain(element: ET.Element) -> Domain:
    disks = [each.find("source") for each in element.findall("devices/disk") if each.get("device") == "disk"]
    interfaces = {
        source.get("network", ""): mac.get("address", "")
        for each in element.findall("devices/interface")
        if (source := each.find("source")) is not None and (mac := each.find("mac")) is not None
    }
    return Domain(
        element.findtext("name", ""),
        element.findtext("uuid", ""),
        element.get("type", ""),
        element.findtext("description", "").strip(),
        tuple(each.get("file", "") for each in disks if each is not None),
        interfaces,
    )
