"""The Docker Engine that DOCKER_HOST, or Docker's context, names: whether it answers, and what its containers share.

Apart from the provider, whose import of python-vagrant complains where Vagrant is absent.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from labctl.errors import ProviderError
from labctl.process import run

FIRST_KERNEL_WITH_NFTABLES_PROXY = (5, 13)
SYS_RESOURCE = 24
"""The capability's bit; where it is missing, as in many sandboxes, `docker run --privileged` fails."""


def engine_answers() -> bool:
    """Whether a Docker Engine can be reached from here, by this user."""
    try:
        return run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=10).code == 0
    except ProviderError:
        return False


def kernel() -> tuple[int, str]:
    """The version of the control groups, and the kernel's, that containers have: the Engine's, or else this machine's."""
    try:
        answer = run(["docker", "info", "--format", "{{.CgroupVersion}} {{.KernelVersion}}"], timeout=10).out.split()
    except ProviderError:
        answer = []
    if len(answer) == len(("cgroups", "kernel")) and answer[0].isdecimal():
        return int(answer[0]), answer[1]
    has_unified_groups = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return 2 if has_unified_groups else 1, os.uname().release


def proxy_mode(release: str) -> str:
    """How kube-proxy should work on a kernel: by nftables where it is new enough."""
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return "nftables" if version >= FIRST_KERNEL_WITH_NFTABLES_PROXY else "iptables"


def can_be_privileged(status: str) -> bool:
    """Whether `docker run --privileged` can work, by the CapBnd line of /proc/self/status; true where there is none."""
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bounding is None or bool(int(bounding[1], 16) >> SYS_RESOURCE & 1)
