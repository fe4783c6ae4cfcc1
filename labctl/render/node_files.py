"""Every file that the nodes of a lab boot from, as text: the Vagrantfile and what each node finds in /etc/labctl."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import lab_folder
from labctl.model.lab import POD_NETWORK, SERVICE_NETWORK, Lab, Node, Phase, Role
from labctl.render import probes
from labctl.render.templates import static, text

STATIC_PODS = "/var/lib/labctl/static-pods"
"""Where the kubelet of a slow node finds its static pods: links to those of kubeadm, once they may start."""
GOGC = 300
"""GOGC of a slow node's own programs: the heap's growth in percent between garbage collections; Go's default is 100."""
SECRETS = frozenset({"ca.key", "kubeadm.yaml"})
"""The files of a node that only its root may read: the CA's key, and the configuration with the join token."""


@dataclass(frozen=True, slots=True)
class Libvirt:
    """Where libvirt stores a lab's machines, and their settings; by default those of a new installation."""

    pool: str = "default"
    """The storage pool of the machines' disks and seeds."""
    folder: Path = Path("/var/lib/libvirt/images")
    """The folder of that pool, on libvirt's machine."""
    code_cache: int = 0
    """MiB of each emulated machine for translated code; 0 leaves QEMU's default."""

    def seed(self, node: str) -> Path:
        """Return the file of the volume with a node's seed, a copy of the one in the lab's folder.

        QEMU runs as a user who cannot read the lab's folder.
        """
        return self.folder / f"labctl-{node}-seed.iso"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the nodes must know about the machine that they run on."""

    cgroup_version: int
    proxy_mode: str
    full_privileges: bool
    kvm: bool
    nameservers: tuple[IPv4Address, ...]
    libvirt: Libvirt = field(default_factory=Libvirt)


@dataclass(frozen=True, slots=True)
class Box:
    """The box from which Vagrant creates virtual machines: its name, its version, and the catalogue that locates it."""

    name: str
    version: str
    catalogue: Path


@dataclass(frozen=True, slots=True)
class Supplies:
    """What the nodes take from the bundle."""

    folder: Path
    id: str
    versions: Mapping[str, str]
    pause_image: str
    node_image: str
    box: Box
    archives: Mapping[Role, Mapping[Phase, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials by which nodes trust each other and admit the host. Only the owner may read their files."""

    ca_certificate: str
    ca_key: str
    token: str
    ssh_public_key: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def lab_files(
    lab: Lab, provider: str, machine: Machine, supplies: Supplies, credentials: Credentials
) -> dict[str, str]:
    """Return the content of every file by its path below the lab's folder."""
    contents = {lab_folder.VAGRANTFILE: _vagrantfile(lab, provider, machine, supplies)}
    for node in lab.nodes:
        files = _node_files(lab, node, machine, supplies, credentials)
        if provider != "docker":
            files |= _machine_files(lab, node, credentials)
        for name, content in files.items():
            contents[f"{lab_folder.NODES}/{node.name}/{name}"] = content
    return contents


def _vagrantfile(lab: Lab, provider: str, machine: Machine, supplies: Supplies) -> str:
    return text(
        "Vagrantfile.j2",
        lab=lab,
        provider=provider,
        image=supplies.node_image,
        bundle=str(supplies.folder),
        box=supplies.box,
        full_privileges=machine.full_privileges,
        kvm=machine.kvm,
        libvirt=machine.libvirt,
        seed=lab_folder.seed,
        console=lab_folder.console,
    )


def _node_files(lab: Lab, node: Node, machine: Machine, supplies: Supplies, credentials: Credentials) -> dict[str, str]:
    values = {**_values(lab, node, machine, supplies), "token": credentials.token}
    is_control_plane = node.role is Role.CONTROL_PLANE
    kubeadm = "kubeadm-init.yaml.j2" if is_control_plane else "kubeadm-join.yaml.j2"
    contents = {
        "bootstrap.sh": text("node/bootstrap.sh.j2", **values),
        "labctl-node.service": static("node/labctl-node.service"),
        "kubelet.service": text("node/kubelet.service.j2", **values),
        "kubeadm.yaml": text(f"node/{kubeadm}", **values),
        "containerd.toml": text("node/containerd.toml.j2", **values),
        "cni.conflist": text("node/cni.conflist.j2", **values),
        "resolv.conf": text("node/resolv.conf.j2", **values),
        "authorized_keys": credentials.ssh_public_key,
        "ca.crt": credentials.ca_certificate,
    }
    if is_control_plane:
        contents["ca.key"] = credentials.ca_key
        contents |= probes.patches(lab.slowness)
        if lab.slowness > 1 and machine.proxy_mode == "nftables":
            contents["kubeproxydaemonset.yaml"] = static("node/kubeproxydaemonset.yaml")  # as kubeadm calls the patch
    else:
        contents["discovery.kubeconfig"] = text("node/discovery.kubeconfig.j2", **values)
    return contents


def _machine_files(lab: Lab, node: Node, credentials: Credentials) -> dict[str, str]:
    """Return the files that only a virtual machine needs: its identity, and its place in the lab's network."""
    values = {"lab": lab, "node": node}
    ca = hashlib.sha256(credentials.ca_certificate.encode()).hexdigest()
    return {
        "hostname": f"{node.name}\n",
        "hosts": text("node/hosts.j2", **values),
        "lab.network": text("node/lab.network.j2", **values),
        # A machine keeps the first id that it sees, and refuses to join another lab, or this one if it is recreated.
        "lab-id": f"{lab.name} {ca}\n",
    }


def _values(lab: Lab, node: Node, machine: Machine, supplies: Supplies) -> dict[str, object]:
    before, beside, after = _imports(lab, node, supplies.archives[node.role])
    return {
        "lab": lab,
        "node": node,
        "peers": [peer for peer in lab.possible_nodes if peer != node],
        "api_server": lab.api_server,
        "pod_network": POD_NETWORK,
        "service_network": SERVICE_NETWORK,
        "first_service": SERVICE_NETWORK.network_address + 1,  # the Service of the API
        "bundle_id": supplies.id,
        "static_pods": STATIC_PODS,
        "gogc": GOGC,
        "api_server_memory": lab.memory * 3 // 8,
        "versions": supplies.versions,
        "pause_image": supplies.pause_image,
        "archives_before": before,
        "archives_beside": beside,
        "archives_after": after,
        "cgroup_version": machine.cgroup_version,
        "proxy_mode": machine.proxy_mode,
        # CoreDNS exits at once without any nameserver. The gateway answers no queries, which does no harm.
        "nameservers": machine.nameservers or (lab.gateway,),
    }


def _imports(lab: Lab, node: Node, archives: Mapping[Phase, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the archives that a node imports before kubeadm, beside it, and last, as its pods do not need them."""
    is_control_plane = node.role is Role.CONTROL_PLANE
    before = (Phase.SANDBOX, Phase.CONTROL_PLANE) if is_control_plane else (Phase.SANDBOX,)
    # Workers, if there are any, run the add-ons.
    after = (Phase.ADDONS,) if is_control_plane and lab.workers else ()
    beside = tuple(phase for phase in Phase if phase not in {*before, *after})
    return tuple(tuple(each for phase in phases for each in archives[phase]) for phases in (before, beside, after))
