"""Is everything here that a lab needs? What is missing, and the command that brings it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl.errors import MissingError
from labctl.events import Say
from labctl.process import check, run
from labctl.providers.engine import engine_answers

PACKAGES = {
    "vagrant": "vagrant",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "mmdebstrap": "mmdebstrap debian-archive-keyring",
    "go": "golang-go",
}
"""Which packages of Debian and Ubuntu bring a program."""
BOOTABLE = ("auto", "docker")
FOR_NODES = ("vagrant", "docker", "ssh")
FOR_ISOLATION = ("dockerd", "containerd", "ip", "iptables", "nsenter")
FOR_BUILDING = ("go", "mmdebstrap")
ROUTES = Path("/proc/net/route")
"""The kernel's IPv4 routes: a line each, destination and mask as hexadecimal numbers in the machine's byte order."""


def missing(programs: Sequence[str]) -> tuple[str, ...]:
    """Return those of the programs that are not on this machine."""
    return tuple(program for program in programs if shutil.which(program) is None)


def require(programs: Sequence[str], *, may_install: bool, say: Say) -> bool:
    """Every program is there; True if one was installed, which is done only with leave and through apt.

    Raises MissingError `tools-missing`, naming all that is missing and the command that brings it.
    """
    absent = missing(programs)
    if not absent:
        return False
    packages = sorted({package for program in absent for package in PACKAGES[program].split()})
    if may_install and shutil.which("apt-get") and os.geteuid() == 0:
        say(f"installing {' '.join(packages)}")
        _install(packages)
        absent = missing(programs)
    if absent:
        raise MissingError(
            f"not on this machine: {', '.join(absent)}",
            id="tools-missing",
            hint=f"Install them: `{_command(packages)}`; as root, `labctl up --yes` does it for you on Debian and Ubuntu.",
        )
    return True


def require_provider(provider: str) -> None:
    """Nodes of this provider can be booted. Raises MissingError."""
    if provider not in BOOTABLE:
        raise MissingError(
            f"provider: {provider}: this version of labctl renders its files and does not boot them",
            id="provider-not-bootable",
            hint="Set `provider: docker`; `labctl render --out DIR` writes the Vagrantfile for your own use.",
        )


def require_isolation_rights() -> None:
    """The user may make network namespaces. Raises MissingError."""
    if not may_isolate():
        raise MissingError(
            "only root on Linux can have a network and a Docker Engine of its own",
            id="isolation-needs-root",
            hint="Run labctl as root, or start Docker and run without `--isolated`.",
        )


def may_isolate() -> bool:
    """Whether the user can have a lab with a network and an Engine of its own."""
    return sys.platform == "linux" and os.geteuid() == 0


def require_engine() -> None:
    """A Docker Engine answers. Raises MissingError."""
    if not engine_answers():
        raise MissingError(
            "no Docker Engine answers",
            id="no-engine",
            hint="Start Docker and see that `docker version` answers for you; or, on Linux, run labctl as root: it "
            "then gives the lab an Engine of its own.",
        )


def require_free_network(network: IPv4Network) -> None:
    """No interface or route of this machine has the lab's network for something else. Raises MissingError."""
    for line in ROUTES.read_text(encoding="ascii").splitlines()[1:] if ROUTES.exists() else ():
        interface, destination, _gateway, _flags, _count, _use, _metric, mask, *_ = line.split()
        routed = IPv4Network((_address(destination), str(_address(mask))))
        if routed.prefixlen and routed.overlaps(network):
            raise MissingError(
                f"network {network}: this machine already routes {routed} by {interface}",
                id="network-taken",
                hint="Choose another `network` in labctl.yaml, or run as root with `--isolated`.",
            )


def require_writable(hosts_file: Path) -> None:
    """The hosts file can be written by this user. Raises MissingError."""
    if hosts_file.exists() and not os.access(hosts_file, os.W_OK):
        raise MissingError(
            f"{hosts_file}: this user may not write it, and names could not be found without it",
            id="hosts-not-writable",
            hint="Run labctl with the rights to write it, or set `hosts_file` to another file.",
        )


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder))


def _install(packages: Sequence[str]) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    update = run(["apt-get", "update", "-q"], env=quiet)
    hint = "" if update.code == 0 else "`apt-get update` failed as well: " + " ".join(update.last_lines[-1:])
    line = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    check(line, env=quiet, error=MissingError, hint=hint)


def _command(packages: Sequence[str]) -> str:
    privilege = "" if os.geteuid() == 0 else "sudo "
    return f"{privilege}apt-get install {' '.join(packages)}"
