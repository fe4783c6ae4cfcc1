"""The lab as a value: its parts, and facts derived from them. Pure: nothing here reads the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from pathlib import Path

from labctl.model.limits import Limits, limits

POD_NETWORK = IPv4Network("10.244.0.0/16")
SERVICE_NETWORK = IPv4Network("10.96.0.0/12")
FIELD_MANAGER = "labctl"
"""The field manager of objects that labctl applies, which the API server records with them."""
CONTROL_PLANE_OFFSET = 10
"""The control plane is the network's .10, workers follow from .11."""
MAX_WORKERS = 20
NODE_POD_NETWORKS = tuple(islice(POD_NETWORK.subnets(new_prefix=24), MAX_WORKERS + 1))
"""The pod network of each node: the control plane's, then the workers' in order."""


class Role(StrEnum):
    """What a node does in the cluster."""

    CONTROL_PLANE = "control-plane"
    WORKER = "worker"


class Phase(StrEnum):
    """When a node needs an image, in order."""

    SANDBOX = "sandbox"
    """Before any container can start."""
    CONTROL_PLANE = "control-plane"
    """For kubeadm to start the control plane."""
    CLUSTER = "cluster"
    """For the node to become Ready, and its pods to reach Services."""
    ADDONS = "addons"
    """For what is applied to the running cluster."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the lab. Its pods have addresses of `pod_network`, to which every other node has a route."""

    name: str
    role: Role
    address: IPv4Address
    pod_network: IPv4Network

    @property
    def mac(self) -> str:
        """The MAC of a virtual machine in the lab's network: locally administered, and the same at every boot."""
        digest = hashlib.sha256(f"{self.name} {self.address}".encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


@dataclass(frozen=True, slots=True)
class AddressPool:
    """The range MetalLB hands out, both ends included."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last

    def __iter__(self) -> Iterator[IPv4Address]:
        return (IPv4Address(number) for number in range(int(self.first), int(self.last) + 1))

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class App:
    """A web application: `replicas` pods of `image` listening on `port`, served at `hostname`."""

    name: str
    hostname: str
    image: str
    port: int
    replicas: int
    path: str = "/"
    """What `up`, `status` and `trace` request."""

    @property
    def url(self) -> str:
        """The app's URL for the user's browser."""
        return f"http://{self.hostname}"

    @property
    def is_scaled_to_zero(self) -> bool:
        """Whether the app is meant to have no pods, so that nothing answers at its hostname."""
        return self.replicas == 0


@dataclass(frozen=True, slots=True)
class Lab:
    """The validated description of a lab."""

    name: str
    provider: str
    network: IPv4Network
    workers: int
    cpus: int
    memory: int
    """MiB of each node."""
    pool: AddressPool
    kubernetes: str
    """The version without a leading v, or `auto` for the bundle's."""
    ingress: str
    apps: tuple[App, ...]
    hosts_file: Path
    bundle: str = ""
    """The bundle that labctl.yaml names: its folder, or `oci://REF`."""
    mirrors: tuple[tuple[str, str], ...] = ()
    """Hosts with a mirror, each with the mirror's address."""
    slowness: int = 1
    """How many times slower than a container the nodes are: every time limit is multiplied by it."""

    @property
    def limits(self) -> Limits:
        """Every time limit of the lab that depends on how fast its nodes are."""
        return limits(self.slowness)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The control plane, then the workers."""
        return _nodes(self.name, self.network)[: self.workers + 1]

    @property
    def control_plane(self) -> Node:
        """The node that runs the API server and etcd."""
        return self.nodes[0]

    @property
    def has_dedicated_control_plane(self) -> bool:
        """Whether only the workers run apps and announce addresses, because they can replace each other.

        With fewer than two workers, the control plane takes part, so that the site survives the failure of a node.
        """
        return self.workers > 1

    @property
    def serving_nodes(self) -> tuple[Node, ...]:
        """The nodes that run apps and the ingress controller, and announce addresses."""
        return self.nodes[1:] if self.has_dedicated_control_plane else self.nodes

    @property
    def possible_nodes(self) -> tuple[Node, ...]:
        """Every node this lab can ever have: nodes have routes to all of them, so a worker can join running ones."""
        return tuple(node for node in _nodes(self.name, self.network) if node.address in self.network)

    @property
    def gateway(self) -> IPv4Address:
        """The host's own address in the lab's network."""
        return self.network.network_address + 1

    @property
    def api_server(self) -> str:
        """The URL of the Kubernetes API, from the host and from every node."""
        return f"https://{self.control_plane.address}:6443"

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of every app that has pods, in the order of the configuration."""
        return tuple(app.url for app in self.apps if not app.is_scaled_to_zero)


def announcing_order(names: Iterable[str], address: IPv4Address | str) -> list[str]:
    """Return nodes in MetalLB's order of preference for an address: the first live node announces it."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{name}#{address}".encode()).digest())


@cache
def _nodes(lab: str, network: IPv4Network) -> tuple[Node, ...]:
    """Return as many nodes as a lab of this name can have; in a small network some are outside it."""
    return tuple(_node(lab, network, index) for index in range(MAX_WORKERS + 1))


def _node(lab: str, network: IPv4Network, index: int) -> Node:
    role = Role.WORKER if index else Role.CONTROL_PLANE
    return Node(
        name=f"{lab}-{role}-{index}" if index else f"{lab}-{role}",
        role=role,
        address=network.network_address + CONTROL_PLANE_OFFSET + index,
        pod_network=NODE_POD_NETWORKS[index],
    )
