"""The table of providers that a lab can name, with everything in which they differ for the rest of labctl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.host import accelerator
from labctl.host.docker_engine import Engine, engine
from labctl.host.libvirt import pools
from labctl.host.machine import Machine
from labctl.model.lab import Lab
from labctl.providers.docker import DockerProvider
from labctl.providers.docker_images import DockerImages
from labctl.providers.docker_network import DockerNetwork
from labctl.providers.libvirt import LibvirtProvider
from labctl.providers.libvirt_images import LibvirtImages
from labctl.providers.protocol import NodeImages, Provider
from labctl.providers.virtualbox import VirtualBoxProvider
from labctl.providers.virtualbox_images import VirtualBoxImages
from labctl.render.node_files import Libvirt

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """A hypervisor or container engine that creates nodes. Only labs of containers can be isolated."""

    name: str
    are_containers: bool
    programs: tuple[str, ...]
    """The programs that must be on PATH."""
    shell_command: tuple[str, ...]
    """The command that runs another on a node, given the node's name, without using the node's network."""
    host: Callable[[], Engine]
    """Returns the cgroup version and the kernel of nodes."""
    provider: Callable[[Lab, Path, Environment], Provider]
    """Creates the provider of a lab in a state folder; programs run with that environment."""
    node_images: Callable[[Path, Environment], NodeImages] | None = None
    can_use_kvm: bool = False
    """Whether its machines use KVM if that works, and emulation otherwise."""
    libvirt: Callable[[], Libvirt] | None = None
    """Asks libvirt for the folder of its machines, and chooses the size of their code cache."""


def _docker(lab: Lab, folder: Path, environment: Environment) -> Provider:
    return DockerProvider(DockerNetwork(lab.name, lab.network, folder, environment))


def _debian() -> Engine:
    """Return the cgroup version and the kernel of a virtual machine, whose system is Debian 13."""
    return Engine(cgroup_version=2, kernel="6.12", version=())


def _libvirt() -> Libvirt:
    """Return the pool that vagrant-libvirt uses, and the code cache; the defaults if libvirt does not answer."""
    machine, default = Machine(), Libvirt()
    folders = [Path(pool.path) for pool in pools(machine) if pool.name == default.pool and pool.path]
    return Libvirt(folder=next(iter(folders), default.folder), code_cache=accelerator.code_cache(machine))


DOCKER = Hypervisor(
    "docker",
    are_containers=True,
    programs=("vagrant", "docker", "ssh"),
    shell_command=("docker", "exec"),
    host=engine,
    provider=_docker,
    node_images=DockerImages,
)
VIRTUALBOX = Hypervisor(
    "virtualbox",
    are_containers=False,
    programs=("vagrant", "ssh"),
    shell_command=(),
    host=_debian,
    provider=VirtualBoxProvider,
    node_images=VirtualBoxImages,
)
LIBVIRT = Hypervisor(
    "libvirt",
    are_containers=False,
    programs=("vagrant", "virsh", "ssh"),
    shell_command=(),
    host=_debian,
    provider=LibvirtProvider,
    node_images=LibvirtImages,
    can_use_kvm=True,
    libvirt=_libvirt,
)
HYPERVISORS: Mapping[str, Hypervisor] = {
    "auto": DOCKER,
    "docker": DOCKER,
    "libvirt": LIBVIRT,
    "virtualbox": VIRTUALBOX,
}
"""The hypervisor for each value of the key `provider`."""


def hypervisor(lab: Lab) -> Hypervisor:
    """Return the hypervisor of the lab's nodes."""
    return HYPERVISORS[lab.provider]
