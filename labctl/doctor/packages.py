"""The packages of the programs that a lab needs, and the commands that install them on each distribution."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from labctl.host.machine import Machine
from labctl.host.parsing import Version, parse_version

OS_RELEASE = Path("/etc/os-release")
APT_LISTS = Path("/var/lib/apt/lists")
HASHICORP = "https://apt.releases.hashicorp.com"
KEY = "/etc/apt/keyrings/hashicorp.asc"
OPTIONAL = "?"
"""Suffix of a package that is installed only if the distribution has it; elsewhere it is a part of another one."""
UBUNTU_WITHOUT_VAGRANT: Version = (24, 4)
DEBIAN_WITH_DOCKER_CLI: Version = (13,)

APT: Mapping[str, str] = MappingProxyType(
    {
        "vagrant": "vagrant",
        "docker": "docker.io docker-cli?",
        "dockerd": "docker.io",
        "containerd": "containerd",
        "ip": "iproute2",
        "iptables": "iptables",
        "nsenter": "util-linux",
        "ssh": "openssh-client",
        "mmdebstrap": "mmdebstrap",
        "debian-archive-keyring": "debian-archive-keyring",
        "newuidmap": "uidmap",
        "virsh": "libvirt-daemon-system libvirt-clients qemu-system-x86",
    }
)
"""The packages of Debian and Ubuntu that provide each program."""


@dataclass(frozen=True, slots=True)
class System:
    """A package manager that labctl does not run itself: its command, and the packages that differ from APT."""

    command: str
    packages: Mapping[str, str]
    """By program; empty if there is no package of it."""
    repositories: Mapping[str, str] = field(default_factory=dict)
    """Repository files that have to be added, by the program that they provide."""


_RPM = {
    "docker": "moby-engine docker-cli",
    "dockerd": "moby-engine",
    "ip": "iproute",
    "iptables": "iptables-nft",
    "ssh": "openssh-clients",
    "debian-archive-keyring": "debian-keyring",
    "newuidmap": "shadow-utils",
    "virsh": "libvirt-daemon-kvm libvirt-client",
}
_DOCKER = {"docker": "docker", "dockerd": "docker", "mmdebstrap": "", "newuidmap": "shadow"}
FEDORA = System("dnf install", _RPM, {"vagrant": "https://rpm.releases.hashicorp.com/fedora/hashicorp.repo"})
RED_HAT = System(
    "dnf install",
    {
        **_RPM,
        "docker": "docker-ce docker-ce-cli",
        "dockerd": "docker-ce",
        "containerd": "containerd.io",
        "mmdebstrap": "",
    },
    {
        "vagrant": "https://rpm.releases.hashicorp.com/RHEL/hashicorp.repo",
        "docker": "https://download.docker.com/linux/rhel/docker-ce.repo",
        "dockerd": "https://download.docker.com/linux/rhel/docker-ce.repo",
    },
)
SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "dnf": FEDORA,
        "pacman": System("pacman -S --needed", {**_DOCKER, "ssh": "openssh"}),
        "zypper": System("zypper install", {**_DOCKER, "ssh": "openssh-clients"}),
    }
)
"""By the package manager's program. Untested."""


@dataclass(frozen=True, slots=True)
class Installation:
    """How to install missing programs on this machine."""

    packages: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    """The commands, in order; empty if labctl does not know this system."""
    without: tuple[str, ...] = ()
    """Programs without a package in the distribution."""
    by_apt: bool = False
    """Whether apt can install all of them from the repositories that it has."""


def as_root(machine: Machine) -> str:
    """Return the prefix of a command that needs root: `sudo `, or nothing if the user is root."""
    return "" if machine.is_root else "sudo "


def installation(programs: Sequence[str], machine: Machine) -> Installation:
    """Return how to install these programs on this machine."""
    if machine.has("apt-get"):
        return _by_apt(programs, machine)
    manager = next((name for name in SYSTEMS if machine.has(name)), None)
    if manager is None:
        return Installation(without=tuple(programs))
    release = _release(machine)
    is_red_hat = "rhel" in f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    return _by_other_manager(programs, RED_HAT if manager == "dnf" and is_red_hat else SYSTEMS[manager], machine)


def apt_has_lists(machine: Machine) -> bool:
    """Return whether apt has lists of packages: a new machine has none before `apt-get update`."""
    return any("_Packages" in name for name in machine.names(APT_LISTS))


def _by_apt(programs: Sequence[str], machine: Machine) -> Installation:
    sudo, release = as_root(machine), _release(machine)
    words = [word for program in programs for word in APT[program].split()]
    wanted = {word.removesuffix(OPTIONAL): word.endswith(OPTIONAL) for word in words}
    known = _known_to_apt(wanted, machine, release)
    packages = sorted(name for name, optional in wanted.items() if name in known or not optional)
    unknown = [name for name in packages if name not in known]
    lines = [f"{sudo}apt-get update"] if not apt_has_lists(machine) else []
    if release.get("ID") == "ubuntu" and set(unknown) - {"vagrant"}:
        lines += [f"{sudo}add-apt-repository universe"]
    if "vagrant" in unknown:
        lines += _hashicorp_by_apt(release, sudo)
    lines += [f"{sudo}apt-get install {' '.join(packages)}"]
    return Installation(tuple(packages), tuple(lines), by_apt=not unknown)


def _known_to_apt(names: Iterable[str], machine: Machine, release: Mapping[str, str]) -> frozenset[str]:
    """Return the packages that apt can fetch; if apt has no lists yet, those that the release is known to have."""
    if apt_has_lists(machine):
        result = machine.run("apt-cache", "madison", *sorted(names))
        return frozenset(re.findall(r"^\s*(\S+) \|", result.out, re.MULTILINE)) if result is not None else frozenset()
    number, lacking = parse_version(r"^(\d+(?:\.\d+)?)", release.get("VERSION_ID", "")), set()
    if release.get("ID") == "ubuntu" and number >= UBUNTU_WITHOUT_VAGRANT:
        lacking.add("vagrant")
    if release.get("ID") != "debian" or number < DEBIAN_WITH_DOCKER_CLI:
        lacking.add("docker-cli")
    return frozenset(names) - lacking


def _hashicorp_by_apt(release: Mapping[str, str], sudo: str) -> list[str]:
    codename = release.get("UBUNTU_CODENAME") or release.get("VERSION_CODENAME", "noble")
    source = f"deb [signed-by={KEY}] {HASHICORP} {codename} main"
    return [
        f"{sudo}apt-get install ca-certificates curl",
        f"{sudo}curl -fsSL -o {KEY} {HASHICORP}/gpg",
        f"echo '{source}' | {sudo}tee /etc/apt/sources.list.d/hashicorp.list",
        f"{sudo}apt-get update",
    ]


def _by_other_manager(programs: Sequence[str], system: System, machine: Machine) -> Installation:
    sudo = as_root(machine)
    brought = {program: system.packages.get(program, APT[program]).split() for program in programs}
    packages = sorted({package for each in brought.values() for package in each})
    files = dict.fromkeys(system.repositories[program] for program in programs if program in system.repositories)
    lines = [f"{sudo}curl -fsSL -o /etc/yum.repos.d/{Path(url).name} {url}" for url in files]
    lines += [f"{sudo}{system.command} {' '.join(packages)}"] if packages else []
    lines += [f"{sudo}systemctl enable --now docker"] if "docker" in programs else []
    return Installation(tuple(packages), tuple(lines), tuple(name for name, each in brought.items() if not each))


def _release(machine: Machine) -> dict[str, str]:
    """Return the fields of /etc/os-release."""
    pairs = re.findall(r"^([A-Z_]+)=(.*)$", machine.read(OS_RELEASE) or "", re.MULTILINE)
    return {key: value.strip().strip("\"'") for key, value in pairs}
