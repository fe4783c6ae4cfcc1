"""What the docker provider asks of labctl beyond Vagrant: the node image, and looks that do not cost 1.3 s each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from labctl.errors import ProviderError
from labctl.events import Say
from labctl.lab import Node
from labctl.process import check, run
from labctl.providers.vagrant import VagrantProvider

FIRST_KERNEL_WITH_NFTABLES_PROXY = (5, 13)
SYS_RESOURCE = 24
"""The capability's bit; where it is missing, as in many sandboxes, `docker run --privileged` fails."""


class DockerProvider(VagrantProvider):
    """Nodes that are containers of the Docker Engine that DOCKER_HOST, or Docker's context, names."""

    def __init__(self, folder: Path, log: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, "docker", log, environment)

    def running(self) -> frozenset[str]:
        """Return the names of the containers that run in the Engine and belong to this lab."""
        ids = {path.read_text() for path in self.folder.glob(".vagrant/machines/*/docker/id")}
        listing = (
            check(["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], env=self.environment) if ids else ""
        )
        return frozenset(name for line in listing.splitlines() if (pair := line.split())[0] in ids for name in pair[1:])

    def take_system(self, image: str, system: Path, say: Say) -> None:
        """The Engine has the node's root filesystem, a tar archive, as an image of this name."""
        if run(["docker", "image", "inspect", "--format", "{{.Id}}", image], env=self.environment).code != 0:
            say(f"giving Docker the node's system, {image}")
            start = ["--change", 'CMD ["/sbin/init"]']
            check(["docker", "import", *start, system, image], env=self.environment, log=self.log_file)

    def destroy(self, say: Say) -> bool:
        """Remove the containers, without the ten seconds that they would take to end in good order."""
        if running := self.running():
            check(["docker", "kill", *running], env=self.environment, log=self.log_file)
        return super().destroy(say)

    def log(self, node: Node) -> tuple[str, ...]:
        """Return the last lines of the node's labctl-node unit, or why they cannot be had."""
        line = ["journalctl", "--unit=labctl-node", "--output=cat", "--lines=12", "--no-pager"]
        return run(["docker", "exec", node.name, *line], env=self.environment, timeout=20).last_lines


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
