"""A machine with recorded outputs of tools and contents of files, for tests of doctor and preflight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from labctl.context import Context
from labctl.doctor import CHECKS, Finding
from labctl.host.arp import Route
from labctl.host.http_probe import Address
from labctl.host.machine import Machine
from labctl.host.process import Finished
from labctl.host.tcp_connect import REFUSED, ConnectResult, Outcome

RECORDED = Path(__file__).parent / "unit" / "doctor" / "recorded"
SYSTEM = ("/dev/kvm", "/etc", "/lib", "/proc", "/run", "/sys", "/usr/share/keyrings", "/var")
"""Paths below which the real machine's files are hidden."""
KEYRINGS = "/usr/share/keyrings"
APT_LISTS = "/var/lib/apt/lists"
MADISON = ("apt-cache", "madison")
HEALTHY_OUTPUTS = {
    "docker --version": ("Docker version 28.2.2, build e6534b4\n", 0),
    "docker version --format {{json .}}": ('{"Server": {"Version": "28.2.2"}}\n', 0),
    "ip -j address show": ("[]", 0),
    "vagrant --version": ("Vagrant 2.4.9\n", 0),
}
"""Outputs of tools on a machine that has everything."""


class Recorded(Machine):
    """Debian with root, every program and a Docker Engine, except for the differences that a test gives.

    `outputs` maps command lines to the names of recorded outputs, or to an output and its exit code. `files` maps paths
    to their text; a test's real files are visible too, except below `SYSTEM`.
    """

    environment: Mapping[str, str] = {}
    platform = "linux"
    is_root = True

    def __init__(self, **differences: Any) -> None:  # noqa: ANN401 - the attributes below
        self.absent: Collection[str] = ()
        self.outputs: Mapping[str, str | tuple[str, int]] = {}
        self.files: Mapping[str, str] = {}
        self.folders: Mapping[str, Collection[str]] = {}
        self.apt_lists: Collection[str] = ("deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages",)
        self.readonly: Collection[str] = ()
        self.space = 100 << 30
        self.neighbours: Collection[str] = ()
        self.queried: list[IPv4Address] = []
        self.started: list[str] = []
        self.reads_hosts = True
        self.resolves: Mapping[str, Sequence[str]] = {}
        self.connections: Mapping[str, Outcome] = {}
        self.probed: list[str] = []
        self.silent: Mapping[str, str] = {}
        self.paths: Mapping[str, str] = {}
        self.inotify: tuple[int, int] | None = (30, 200)
        self.without_packages: Collection[str] = ("docker-cli",)
        vars(self).update(differences)

    def has(self, program: str) -> bool:
        return program not in self.absent

    def path_of(self, program: str) -> str:
        return self.paths.get(program, f"/usr/bin/{program}") if self.has(program) else ""

    def run(self, *line: str) -> Finished | None:
        if not self.has(line[0]):
            return None
        self.started.append(line[0])
        if line[:2] == MADISON:
            known = [name for name in line[2:] if name not in self.without_packages]
            return Finished(0, "".join(f" {name} | 1.0 | http://deb.debian.org/debian x\n" for name in known), ())
        output = {**HEALTHY_OUTPUTS, **self.outputs}.get(" ".join(line), ("", 0))
        out, code = ((RECORDED / output).read_text(encoding="utf-8"), 0) if isinstance(output, str) else output
        return Finished(code, out if code == 0 else "", tuple(out.splitlines()))

    def read(self, path: Path) -> str | None:
        recorded = self.files.get(str(path))
        return super().read(path) if recorded is None and not str(path).startswith(SYSTEM) else recorded

    def names(self, folder: Path) -> tuple[str, ...]:
        known = {APT_LISTS: self.apt_lists, KEYRINGS: ["debian-archive-keyring.gpg"], **self.folders}.get(str(folder))
        if known is None:
            return () if str(folder).startswith(SYSTEM) else super().names(folder)
        return tuple(sorted(known))

    def may_write(self, path: Path) -> bool:
        return str(path) not in self.readonly

    def open_error(self, device: Path) -> str:
        return "Permission denied" if str(device) in self.readonly else ""

    def free_space(self, path: Path) -> int:  # noqa: ARG002 - one disk
        return self.space

    def inotify_of_root(self) -> tuple[int, int] | None:
        return self.inotify if self.is_root else None

    def answering(self, addresses: Collection[IPv4Address], route: Route) -> frozenset[IPv4Address]:  # noqa: ARG002 - one network
        self.queried += addresses
        return frozenset(address for address in addresses if str(address) in self.neighbours)

    def resolver_reads(self, hosts: Path) -> bool:  # noqa: ARG002 - it reads the test's own
        return self.reads_hosts

    def resolve(self, hostname: str) -> Sequence[Address]:
        return [ip_address(each) for each in self.resolves.get(hostname, ())]

    def connect(self, addresses: Sequence[Address], seconds: float) -> Mapping[Address, ConnectResult]:  # noqa: ARG002 - it answers at once
        self.probed += map(str, addresses)
        return {
            each: ConnectResult(self.connections.get(str(each), REFUSED), "Connection refused") for each in addresses
        }

    def unreachable(self, url: str) -> str:
        return self.silent.get(url, "")


def run_check(identity: str, context: Context, **differences: Any) -> Finding:  # noqa: ANN401 - what differs from a good machine
    """Return the finding of a check on a machine with these differences."""
    (check,) = (check for check in CHECKS if check.id == identity)
    return check.examine(context, Recorded(**differences))


def text(name: str) -> str:
    """Return a recorded output."""
    return (RECORDED / name).read_text(encoding="utf-8")
