"""Facts about the Docker Engine that DOCKER_HOST, or Docker's context, names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from labctl.host.process import run
from labctl.model.errors import ProviderError

FIRST_KERNEL_WITH_NFTABLES_PROXY = (5, 13)
FIRST_ENGINE_WITHOUT_MISSING_CAPABILITIES = (23,)
PLATFORM = ("docker", "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
SYS_RESOURCE = 24
"""The bit of CAP_SYS_RESOURCE, which many sandboxes lack."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What nodes depend on in the Engine that runs them: its cgroup version, kernel and own version."""

    cgroup_version: int
    kernel: str
    version: tuple[int, ...]
    """Empty if no Engine answers."""


def engine() -> Engine:
    """Return the facts about the Engine; if none answers, the cgroup version and the kernel of this machine."""
    fields = ("{{.CgroupVersion}}", "{{.KernelVersion}}", "{{.ServerVersion}}")
    try:
        answer = run(["docker", "info", "--format", " ".join(fields)], timeout=10).out.split()
    except ProviderError:
        answer = []
    if len(answer) == len(fields) and answer[0].isdecimal():
        return Engine(int(answer[0]), answer[1], _version(answer[2]))
    has_unified_groups = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Engine(2 if has_unified_groups else 1, os.uname().release, ())


def platform() -> str:
    """Return the Engine's operating system and architecture, such as `linux/amd64`; empty if none answers."""
    try:
        answer = run(PLATFORM, timeout=10)
    except ProviderError:
        return ""
    return answer.out.strip() if answer.code == 0 else ""


def proxy_mode(release: str) -> str:
    """Return kube-proxy's mode for a kernel: nftables if the kernel is new enough."""
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    return "nftables" if version >= FIRST_KERNEL_WITH_NFTABLES_PROXY else "iptables"


def supports_privileged(version: tuple[int, ...], status: str) -> bool:
    """Return whether `docker run --privileged` works with this Engine.

    Engine 23 and newer omits capabilities that the machine lacks, and refuses to drop those by name. An older one fails
    if one is missing in the CapBnd line of `status`, the text of /proc/self/status.
    """
    return version >= FIRST_ENGINE_WITHOUT_MISSING_CAPABILITIES or has_all_capabilities(status)


def has_all_capabilities(status: str) -> bool:
    """Return whether a CapBnd line has all capabilities of `docker run --privileged`; true without such a line."""
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bounding is None or bool(int(bounding[1], 16) >> SYS_RESOURCE & 1)


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else ()
