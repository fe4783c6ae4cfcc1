"""The programs that a lab needs, and the versions of them that do not work."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.context import Context
from labctl.doctor.conditions import CONTAINERS
from labctl.doctor.engines import engine_version
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.doctor.readings import Version, dotted, last, version
from labctl.doctor.surroundings import Surroundings

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
}
"""Which packages of Debian and Ubuntu bring a program."""
FOR_NODES = ("vagrant", "docker", "ssh")
FOR_ISOLATION = ("dockerd", "containerd", "ip", "iptables", "nsenter")
FOR_BUILDING = ("mmdebstrap",)

VAGRANT_FOR_ENGINE_25: Version = (2, 4, 2)
"""Vagrant before it crashes on Docker Engine 25 and newer [upstream]."""


def needed(context: Context) -> tuple[str, ...]:
    """The programs without which `up` of this lab cannot begin."""
    return (
        *(FOR_NODES if context.lab.provider in CONTAINERS else ("vagrant", "ssh")),
        *(FOR_ISOLATION if context.isolated else ()),
        *(FOR_BUILDING if not context.has_bundle else ()),
    )


def missing(programs: Sequence[str], seen: Surroundings) -> tuple[str, ...]:
    """Those of the programs that are not on this machine."""
    return tuple(program for program in programs if not seen.has(program))


def packages_of(programs: Sequence[str]) -> list[str]:
    """The packages of Debian and Ubuntu that bring these programs."""
    return sorted({package for program in programs for package in PACKAGES[program].split()})


def absence(programs: Sequence[str], seen: Surroundings) -> Finding:
    """Whether the programs are there; where one is not, the command that brings all that are missing."""
    absent = missing(programs, seen)
    if not absent:
        return ok(", ".join(programs))
    command = ("" if seen.is_root else "sudo ") + f"apt-get install {' '.join(packages_of(absent))}"
    return broken(
        f"not on this machine: {', '.join(absent)}",
        f"Install them: `{command}`; as root, `labctl up --yes` does it for you on Debian and Ubuntu.",
    )


def look_at_tools(context: Context, seen: Surroundings) -> Finding:
    """Every program that `up` starts is on PATH."""
    return absence(needed(context), seen)


def look_at_provider(context: Context, _seen: Surroundings) -> Finding:
    """Nodes of this provider can be booted."""
    if context.lab.provider in CONTAINERS:
        return ok("nodes are containers that boot systemd")
    return broken(
        f"provider: {context.lab.provider}: this version of labctl renders its files and does not boot them",
        "Set `provider: docker`; `labctl render --out DIR` writes the Vagrantfile for your own use.",
    )


def look_at_vagrant(context: Context, seen: Surroundings) -> Finding:
    """Vagrant tells its version, and it is one that works with the Engine."""
    said = seen.run("vagrant", "--version")
    if said is None:
        return not_relevant("there is no vagrant; see `tools`")
    found = version(r"Vagrant (\d+(?:\.\d+)+)", said.out)
    if not found:
        return broken(f"`vagrant --version` failed: {last(said.last_lines)}", "Install Vagrant again.")
    engine = engine_version(context, seen)
    if engine >= (25,) and found < VAGRANT_FOR_ENGINE_25 and context.lab.provider in CONTAINERS:
        return broken(
            f"Vagrant {dotted(found)} with Docker Engine {dotted(engine)}",
            f"Install Vagrant {dotted(VAGRANT_FOR_ENGINE_25)} or newer; older ones crash on Docker Engine 25 and newer.",
        )
    return ok(f"Vagrant {dotted(found)}" + (f" with Docker Engine {dotted(engine)}" if engine else ""))


def look_at_rights_to_isolate(_context: Context, seen: Surroundings) -> Finding:
    """The user may make network namespaces."""
    if seen.may_isolate:
        return ok("root on Linux")
    return broken(
        "only root on Linux can have a network and a Docker Engine of its own",
        "Run labctl as root, or start Docker and run without `--isolated`.",
    )
