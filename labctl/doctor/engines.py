"""The Docker Engine that the docker command reaches: whether it is Docker's own and runs on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labctl.context import Context
from labctl.doctor.finding import Finding, State, broken, not_relevant, ok, warning
from labctl.host.known_failures import recognise
from labctl.host.machine import Machine
from labctl.host.parsing import Version, last_line, parse_json, parse_version, version_text
from labctl.host.process import Finished
from labctl.model.errors import MissingError

COMMAND = ("docker", "--version")
VERSION = ("docker", "version", "--format", "{{json .}}")
INFO = ("docker", "info", "--format", "{{json .}}")
ENDPOINT = ("docker", "context", "inspect")
RELEASE = Path("/proc/sys/kernel/osrelease")
HOSTNAME = Path("/proc/sys/kernel/hostname")
SNAP_PROGRAMS = "/snap/"
SNAP_DATA = "/var/snap/"
NOT_STARTED = "engine-unreachable"
"""The generic known failure, in place of which the docker command's own message is shown."""
OLDEST: Version = (20, 10)
"""The first Engine that gives a container control groups of its own."""
LOCAL_SCHEMES = ("", "unix", "npipe", "fd")

OWN_ENGINE = (
    "Use a Docker Engine of this machine: install docker.io (or Docker's own docker-ce), then `unset DOCKER_HOST DOCKER_CONTEXT` and "
    "`docker context use default`; or, on Linux as root, `labctl up --isolated`."
)
ON_LINUX = "Run labctl on a Linux machine, or in a virtual machine with Linux: nodes need its kernel and its network."
NO_PODMAN = "Remove the package podman-docker and install docker.io: both contain a `docker` command."
NO_SNAP = "Remove the snap (`sudo snap remove docker`) and install the package docker.io, which is not confined."


@dataclass(frozen=True, slots=True)
class Engine:
    """What the Engine reports about itself, and its endpoint."""

    address: str
    product: str
    components: tuple[str, ...]
    version: Version
    system: str
    kernel: str
    host: str
    data: str
    security: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """An unsupported kind of Engine: how to recognise it, its description, and the fix."""

    cause: str
    matches: Callable[[Engine, Machine], bool]
    observation: str
    """A format string with the fields of Engine."""
    fix: str


def check_command(_context: Context, machine: Machine) -> Finding:
    """Check that the `docker` command is Docker's own, and can read the lab's files."""
    result = machine.run(*COMMAND)
    if result is None:
        return not_relevant("docker is not installed; see `tools`")
    path = machine.path_of(COMMAND[0])
    if "podman" in result.out.casefold():
        return broken(f"{path} is podman's: {last_line(result.out.splitlines())}", NO_PODMAN, cause="engine-podman")
    if path.startswith(SNAP_PROGRAMS):
        return broken(f"{path} is a snap, which may not read the lab's files", NO_SNAP, cause="engine-snap")
    return ok(f"{path}: {last_line(result.out.splitlines()) or 'unknown version'}")


def check_engine(context: Context, machine: Machine) -> Finding:
    """Check that a Docker Engine of this machine answers this user."""
    if not machine.has(COMMAND[0]):
        return not_relevant("docker is not installed; see `tools`")
    if machine.path_of(COMMAND[0]).startswith(SNAP_PROGRAMS):
        return not_relevant("the docker command is a snap; see `docker-command`")
    address = _address(machine)
    if _is_remote(address):
        return _finding(REMOTE, Engine(address, "", (), (), "", "", "", "", ()), machine)
    result = machine.run(*VERSION)
    server = parse_json(result.out).get("Server") if result is not None and result.code == 0 else None
    if server is None and check_command(context, machine).state is State.BROKEN:
        return not_relevant("the docker command is not Docker's own; see `docker-command`")
    if server is None:
        return _no_engine(address, result)
    engine = _engine(address, server, machine)
    kind = next((kind for kind in KINDS if kind.matches(engine, machine)), None)
    return _healthy(engine, machine) if kind is None else _finding(kind, engine, machine)


def _no_engine(address: str, result: Finished | None) -> Finding:
    """Return why no Engine answers, with the cause if the docker command's output is a known failure."""
    lines = result.last_lines if result is not None else ()
    unknown = MissingError(
        f"no Docker Engine answers{f' at {address}' if address else ''}: {last_line(lines)}",
        id="",
        hint="Start Docker and check that `docker version` works for your user. Or, on Linux, run labctl as root: the lab then "
        "gets its own Engine.",
    )
    known = recognise(unknown, "\n".join(lines))
    why = unknown if known.id == NOT_STARTED else known
    return broken(why.message, why.hint, cause=why.id)


def engine_version(context: Context, machine: Machine) -> Version:
    """Return the version of the Engine for the lab's nodes; empty if it is unknown."""
    if context.isolated:
        result = machine.run("dockerd", "--version")
        return parse_version(r"(\d+\.\d+\.\d+)", result.out) if result is not None and result.code == 0 else ()
    result = machine.run(*VERSION)
    server = parse_json(result.out).get("Server") if result is not None and result.code == 0 else None
    return _version(server) if server else ()


def _finding(kind: Kind, engine: Engine, machine: Machine) -> Finding:
    fields = {name: getattr(engine, name) for name in ("address", "product", "system", "kernel", "host", "data")}
    fix = ON_LINUX if machine.platform != "linux" and kind.fix == OWN_ENGINE else kind.fix
    return broken(kind.observation.format_map(fields), fix, cause=kind.cause)


def _healthy(engine: Engine, machine: Machine) -> Finding:
    product = f"Docker Engine {version_text(engine.version)}" if engine.version else "a Docker Engine answers"
    if "microsoft" in engine.kernel.casefold():
        fix = "Use a browser that runs in WSL, or `labctl exec -- curl`; Windows reads another hosts file."
        return warning(f"{product} in WSL 2: programs of Windows do not reach the lab", fix, cause="engine-wsl")
    here = _line(machine, HOSTNAME)
    if engine.host and here and engine.host != here:
        return warning(
            f"{product} runs on {engine.host}, and labctl on {here}: labctl seems to be in a container",
            "Run labctl where the Engine runs: nodes are given folders of that machine.",
            cause="engine-other-host",
        )
    return ok(product)


def _address(machine: Machine) -> str:
    """Return the docker command's endpoint of the Engine, without a password."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1@", machine.environment.get("DOCKER_HOST") or _endpoint(machine))


def _endpoint(machine: Machine) -> str:
    result = machine.run(*ENDPOINT)
    described = parse_json(result.out, list) if result is not None and result.code == 0 else []
    return str(described[0].get("Endpoints", {}).get("docker", {}).get("Host", "")) if described else ""


def _engine(address: str, server: dict[str, Any], machine: Machine) -> Engine:
    result = machine.run(*INFO)
    info = parse_json(result.out) if result is not None and result.code == 0 else {}
    return Engine(
        address=address,
        product=(server.get("Platform") or {}).get("Name", ""),
        components=tuple(each.get("Name", "") for each in server.get("Components") or ()),
        version=_version(server),
        system=info.get("OperatingSystem", ""),
        kernel=info.get("KernelVersion") or server.get("KernelVersion", ""),
        host=info.get("Name", ""),
        data=info.get("DockerRootDir", ""),
        security=tuple(info.get("SecurityOptions") or ()),
    )


def _version(server: dict[str, Any]) -> Version:
    return parse_version(r"^(\d+\.\d+\.\d+)", server.get("Version", ""))


def _is_remote(address: str) -> bool:
    """Return whether the endpoint is on another machine; a local one may still be a tunnel to one."""
    parts = urlsplit(address)
    if parts.scheme in LOCAL_SCHEMES:
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def _is_virtual(engine: Engine, machine: Machine) -> bool:
    """Return whether the Engine runs on another kernel than labctl: in a virtual machine, or behind a tunnel."""
    if machine.platform != "linux":
        return True
    kernel, host = _line(machine, RELEASE), _line(machine, HOSTNAME)
    if urlsplit(engine.address).scheme in LOCAL_SCHEMES:
        return bool(kernel and engine.kernel) and engine.kernel != kernel
    return bool(kernel) and (engine.kernel, engine.host) != (kernel, host)


def _line(machine: Machine, path: Path) -> str:
    return (machine.read(path) or "").strip()


REMOTE = Kind(
    "engine-remote",
    lambda engine, _seen: _is_remote(engine.address),
    "the Engine at {address} is on another machine: its nodes cannot have this machine's files, nor be reached from here",
    f"Run labctl on that machine. Or: {OWN_ENGINE}",
)
KINDS = (
    REMOTE,
    Kind(
        "engine-podman",
        lambda engine, _seen: any("podman" in name.casefold() for name in engine.components),
        "podman answers at {address}, and Vagrant's docker provider does not work with it",
        OWN_ENGINE,
    ),
    Kind(
        "engine-desktop",
        lambda engine, _seen: "docker desktop" in f"{engine.product} {engine.system}".casefold(),
        "the Engine is Docker Desktop's: it runs in a virtual machine, whose networks cannot be reached from here",
        OWN_ENGINE,
    ),
    Kind(
        "engine-rootless",
        lambda engine, _seen: any(option.startswith("name=rootless") for option in engine.security),
        "the Engine at {address} is rootless: its networks cannot be reached from here, and nodes lack privileges",
        OWN_ENGINE,
    ),
    Kind(
        "engine-snap",
        lambda engine, _seen: engine.data.startswith(SNAP_DATA),
        "the Engine is a snap (its data is in {data}), which may not read the lab's files",
        NO_SNAP,
    ),
    Kind(
        "engine-too-old",
        lambda engine, _seen: bool(engine.version) and engine.version < OLDEST,
        "the Engine at {address} is older than 20.10: nodes cannot have control groups of their own",
        "Install a newer one: the package docker.io, or Docker's own docker-ce.",
    ),
    Kind(
        "engine-virtual",
        _is_virtual,
        "the Engine runs on {host} with the kernel {kernel}, not on this one: its networks cannot be reached from here",
        OWN_ENGINE,
    ),
)
"""In order of precedence: the more specific kinds come first."""
