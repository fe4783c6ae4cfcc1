"""Every provider that a lab can name: who makes its nodes, and what that means for the rest of labctl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from labctl.host.docker_engine import Engine, engine
from labctl.model.lab import Lab
from labctl.providers.docker import DockerProvider
from labctl.providers.docker_images import DockerImages
from labctl.providers.docker_network import DockerNetwork
from labctl.providers.protocol import NodeImages, Provider
from labctl.providers.vagrant import VagrantProvider
from labctl.providers.virtualbox import VirtualBoxProvider
from labctl.render.node_files import Libvirt

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """What makes nodes. A lab of containers can have a network, and an Engine, of its own."""

    name: str
    are_containers: bool
    programs: tuple[str, ...]
    """What must be on PATH."""
    way_in: tuple[str, ...]
    """The command that runs another on a node, given the node's name, without using the node's network."""
    host: Callable[[], Engine]
    """Returns the control groups and the kernel that nodes have."""
    provider: Callable[[Lab, Path, Environment], Provider]
    """Makes the provider of a lab in a state folder; programs are started in that environment."""
    node_images: Callable[[Path, Environment], NodeImages] | None = None
    can_use_kvm: bool = False
    """Whether its machines use KVM where that works, and are emulated elsewhere."""
    libvirt: Callable[[Lab, Path], Libvirt] | None = None
    """Returns where libvirt keeps and connects the machines of a lab with this state folder; asks libvirt, if need be."""


def _docker(lab: Lab, folder: Path, environment: Environment) -> Provider:
    return DockerProvider(DockerNetwork(lab.name, lab.network, folder, environment))


def _virtual_machines(name: str) -> Hypervisor:
    return Hypervisor(
        name,
        are_containers=False,
        programs=("vagrant", "ssh"),
        way_in=(),
        can_use_kvm=name == "libvirt",
        host=lambda: Engine(cgroup_version=2, kernel="6.12", version=()),  # those of the node's system, Debian 13
        provider=lambda lab, folder, environment: VagrantProvider(folder, name, environment, lab.limits),
    )


DOCKER = Hypervisor(
    "docker",
    are_containers=True,
    programs=("vagrant", "docker", "ssh"),
    way_in=("docker", "exec"),
    host=engine,
    provider=_docker,
    node_images=DockerImages,
)
VIRTUALBOX = replace(_virtual_machines("virtualbox"), provider=VirtualBoxProvider)
HYPERVISORS: Mapping[str, Hypervisor] = {
    "auto": DOCKER,
    "docker": DOCKER,
    "libvirt": _virtual_machines("libvirt"),
    "virtualbox": VIRTUALBOX,
}
"""By the value of the key `provider`."""


def hypervisor(lab: Lab) -> Hypervisor:
    """Return what makes the lab's nodes."""
    return HYPERVISORS[lab.provider]
