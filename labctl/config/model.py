"""Define the keys of `labctl.yaml`: their types, rules and defaults."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from labctl.host.paths import OCI
from labctl.model.errors import UsageError
from labctl.model.lab import MAX_WORKERS, POD_NETWORK, SERVICE_NETWORK, AddressPool, App, Lab
from labctl.model.pools import default_pool
from labctl.transfer import mirrors, reference

Provider = Literal["auto", "docker", "libvirt", "virtualbox"]
AUTO = "auto"
CONTAINERS = "docker"
"""The provider of a lab whose record has `auto`: earlier versions had no other."""
MACHINES = ("libvirt", "virtualbox")
"""The providers whose nodes are virtual machines."""
LEAST_MACHINE = 1536
"""The least memory of a virtual machine in MiB: a control plane uses 800 (measured), the rest is page cache."""
Ingress = Literal["auto", "ingress-nginx", "traefik"]

# The grammar of values. No pattern allows quotes, control characters or line ends.

_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SERVICE = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_HOSTNAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
_VERSION = r"^(auto|[0-9]+\.[0-9]+\.[0-9]+(-(alpha|beta|rc)\.[0-9]+)?)$"
_FILE = r"""^/[^\x00-\x1f\x7f-\x9f\u2028\u2029'"`\\]+$"""
_SOURCE = r"""^[^\x00-\x1f\x7f-\x9f\u2028\u2029'"`\\]+$"""
_IMAGE_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = (
    rf"^([A-Za-z0-9][-.A-Za-z0-9]*(:[0-9]+)?/)?{_IMAGE_PART}(/{_IMAGE_PART})*"
    r"(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@sha256:[a-f0-9]{64})?$"
)
_PATH = r"^/[-A-Za-z0-9._~!$&()*+,;=:@%/]*(\?[-A-Za-z0-9._~!$&()*+,;=:@%/?]*)?$"
MUST_BE = {
    _LABEL: "lower-case letters, digits and hyphens, with a letter or digit at both ends",
    _SERVICE: "lower-case letters, digits and hyphens, with a letter first and no hyphen last",
    _HOSTNAME: "a hostname in lower case, such as my-app.local",
    _VERSION: "auto, or a full version without a leading v, such as 1.37.2",
    _FILE: "an absolute path without quotes, backslashes or control characters",
    _SOURCE: "a folder, or oci://REF, without quotes, backslashes or control characters",
    _IMAGE: "an image reference, such as nginx or ghcr.io/me/app:1.2",
    _PATH: "a path as in a URL, such as / or /healthz",
}
_MEBIBYTES = {"MiB": 1, "GiB": 1024}
_PRIVATE = tuple(IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_TAKEN = {"pods": POD_NETWORK, "services": SERVICE_NETWORK}
UNPLANNED = AddressPool(IPv4Address(0), IPv4Address(0))
"""The value of `pool: auto` until the free addresses are known."""
_LARGEST, _SMALLEST = 16, 28
"""Prefix lengths of a lab's network: the largest beside pods and services, the smallest with nodes and a pool."""


def _mebibytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not (match := re.fullmatch("([0-9]{1,9}) ?(MiB|GiB)", value)):
        raise ValueError("must be a number of MiB, such as 2048, or text such as 2GiB")
    return int(match[1]) * _MEBIBYTES[match[2]]


def _network(value: object) -> IPv4Network:
    try:
        network = IPv4Network(str(value), strict=False)
    except ValueError as error:
        raise ValueError("must be an IPv4 network, such as 192.168.56.0/24") from error
    checks = (
        (str(network) != str(value), f"must be written {network}"),
        (not _LARGEST <= network.prefixlen <= _SMALLEST, f"must be between a /{_LARGEST} and a /{_SMALLEST}"),
        (not any(map(network.subnet_of, _PRIVATE)), "must be private address space (RFC 1918)"),
        *((network.overlaps(taken), f"overlaps the network of {what} ({taken})") for what, taken in _TAKEN.items()),
    )
    if wrong := [text for holds, text in checks if holds]:
        raise ValueError("; ".join(wrong))
    return network


def _pool(value: object) -> AddressPool:
    if value == "auto":
        return UNPLANNED
    first, dash, last = str(value).partition("-")
    try:
        if not dash:
            block = IPv4Network(first)
            return AddressPool(block.network_address, block.broadcast_address)
        pool = AddressPool(IPv4Address(first.strip()), IPv4Address(last.strip()))
    except ValueError as error:
        raise ValueError("must be IPv4, such as 192.168.56.100-192.168.56.110 or 192.168.56.96/28, or auto") from error
    if pool.last < pool.first:
        raise ValueError("ends before it starts")
    return pool


def _bundle(text: str) -> str:
    if text.startswith(OCI):
        _reference(text.removeprefix(OCI))
    elif "://" in text:
        raise ValueError(f"must be a folder, or {OCI}REF")
    return text


def _reference(text: str) -> None:
    try:
        wanted = reference.parse(text).wanted
    except UsageError as error:
        raise ValueError(error.message) from error
    if wanted is None:
        raise ValueError(f"{text} names neither a tag nor a digest")


def _mirrors(table: dict[str, str]) -> dict[str, str]:
    try:
        mirrors.parse_mirrors(table, "")
    except UsageError as error:
        raise ValueError(error.message.removeprefix(f"{mirrors.CONFIG_KEY}: ")) from error
    return table


def _public_name(hostname: str) -> str:
    last = hostname.rpartition(".")[2]
    if last.isdigit():
        raise ValueError("must be a name; a name that ends in a number is read as an address")
    if last == "localhost":
        raise ValueError("must not be localhost, which is this machine itself")
    return hostname


_OTHERS_OBJECTS = {
    "kubernetes": "the Kubernetes API's own Service",
    **dict.fromkeys(("demo-first", "demo-second", "demo-third"), "a Service of the demo `pool`"),
}
"""Reserved names in the apps' namespace, each with the owner of the object."""


def _free_name(name: str) -> str:
    if name in _OTHERS_OBJECTS:
        raise ValueError(f"is the name of {_OTHERS_OBJECTS[name]}, which the app would replace")
    return name


class AppConfig(BaseModel):
    """A web application."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[
        str,
        Field(
            description="Name of the Deployment, Service and Ingress.",
            pattern=_SERVICE,
            max_length=50,
            json_schema_extra={"not": {"enum": [*_OTHERS_OBJECTS]}},
        ),
        AfterValidator(_free_name),
    ]
    image: Annotated[str, Field(description="Container image.", pattern=_IMAGE, max_length=255)] = "nginx"
    hostname: Annotated[str, Field(pattern=_HOSTNAME, max_length=253), AfterValidator(_public_name)] | None = Field(
        default=None, description="By default NAME.local."
    )
    port: Annotated[int, Field(description="Port that the container listens on.", ge=1, le=65535)] = 80
    replicas: Annotated[int, Field(description="Number of pods.", ge=0, le=50)] = 2
    path: Annotated[str, Field(pattern=_PATH, max_length=1024)] = Field(
        default="/", description="The path that `up`, `status` and `trace` request."
    )


class Config(BaseModel):
    """A lab, as labctl.yaml describes it."""

    model_config = ConfigDict(strict=True, extra="forbid", title="labctl.yaml")

    name: Annotated[str, Field(pattern=_LABEL, max_length=32)] = Field(
        default="demo", description="The lab's name; its nodes are named after it."
    )
    provider: Provider = Field(
        default="auto",
        description="Provider of the nodes: docker (containers), libvirt or virtualbox (virtual machines). auto is the "
        "first that this machine can use; `labctl up` and `labctl doctor` report why.",
    )
    network: Annotated[IPv4Network, BeforeValidator(_network)] = Field(
        default=IPv4Network("192.168.56.0/24"),
        description="The private network: the host is .1, the control plane .10, workers .11 and up.",
    )
    workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)] = Field(
        default=1, description="Nodes in addition to the control plane."
    )
    cpus: Annotated[int, Field(ge=1, le=256)] = Field(default=2, description="Processors of each node.")
    memory: Annotated[
        int,
        Field(ge=512, le=1024 * 1024),
        BeforeValidator(_mebibytes),
        WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+ ?(MiB|GiB)$"}]}),
    ] = Field(default=2048, description="Memory of each node, in MiB, or text such as 2GiB.")
    pool: Annotated[AddressPool, BeforeValidator(_pool), WithJsonSchema({"type": "string"})] | None = Field(
        default=None,
        description="Addresses that MetalLB hands out: FIRST-LAST or a CIDR block, by default .100 to .110 of the network. auto "
        "takes those if they are free, otherwise the largest free range; a network without them defaults to auto.",
    )
    kubernetes: Annotated[str, Field(pattern=_VERSION)] = Field(
        default="auto", description="Kubernetes version, such as 1.37.2; auto is the bundle's."
    )
    ingress: Ingress = Field(
        default="auto",
        description="Ingress controller: ingress-nginx or traefik; auto is the first that the bundle has.",
    )
    apps: list[AppConfig] = Field(
        default=[AppConfig(name="my-app")],
        description="Web applications. Only name is needed: image is nginx, hostname NAME.local, port 80, replicas 2, "
        "path /.",
    )
    hosts_file: Annotated[str, Field(pattern=_FILE)] = Field(
        default="/etc/hosts", description="Where hostnames are written, in a marked block."
    )

    bundle: Annotated[str, Field(pattern=_SOURCE), AfterValidator(_bundle)] | None = Field(
        default=None,
        description="Bundle to boot from: its folder, or oci://REF in a registry. By default one in the cache, otherwise a "
        "download, otherwise a build.",
    )
    mirrors: Annotated[dict[str, str], AfterValidator(_mirrors)] = Field(
        default={},
        description="Mirrors, as a table from a host, such as registry.k8s.io, to the URL that replaces it. LABCTL_MIRRORS takes "
        "precedence.",
    )

    def lab(self) -> Lab:
        """Return the lab that these values describe."""
        return Lab(
            name=self.name,
            provider=self.provider,
            network=self.network,
            workers=self.workers,
            cpus=self.cpus,
            memory=self.memory,
            pool=self.pool
            or (default_pool(self.network) if default_pool(self.network).last in self.network else UNPLANNED),
            kubernetes=self.kubernetes,
            ingress=self.ingress,
            apps=tuple(
                App(app.name, app.hostname or f"{app.name}.local", app.image, app.port, app.replicas, app.path)
                for app in self.apps
            ),
            hosts_file=Path(self.hosts_file),
            bundle=self.bundle or "",
            mirrors=tuple(self.mirrors.items()),
        )
