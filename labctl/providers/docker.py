"""What the docker provider asks of labctl beyond Vagrant: the node image, and looks that do not cost 1.3 s each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labctl.events import Say
from labctl.lab import Node
from labctl.process import check, run
from labctl.providers.vagrant import VagrantProvider

STOP_SECONDS = "10"
"""How long a node may take to stop what runs on it."""


class DockerProvider(VagrantProvider):
    """Nodes that are containers of the Docker Engine that DOCKER_HOST, or Docker's context, names."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, "docker", environment)

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
            check(["docker", "import", *start, system, image], env=self.environment)

    def halt(self, names: Collection[str], say: Say) -> None:
        """Stop the containers, all at once, in good order."""
        with self._acting(say):
            say(f"stopping {', '.join(sorted(names))}")
            check(["docker", "stop", "--time", STOP_SECONDS, *sorted(names)], env=self.environment)

    def power_off(self, names: Collection[str], say: Say) -> None:
        """Kill the containers, all at once."""
        with self._acting(say):
            say(f"cutting the power of {', '.join(sorted(names))}")
            check(["docker", "kill", *sorted(names)], env=self.environment)

    def destroy(self, say: Say) -> bool:
        """Remove the containers, without the ten seconds that they would take to end in good order."""
        with ThreadPoolExecutor() as pool:
            # While Vagrant starts; a container that Vagrant stopped first is one less to kill.
            for name in self.running():
                pool.submit(run, ["docker", "kill", name], env=self.environment)
            return super().destroy(say)

    def log(self, node: Node) -> tuple[str, ...]:
        """Return the last lines of the node's labctl-node unit, or why they cannot be had."""
        line = ["journalctl", "--unit=labctl-node", "--output=cat", "--lines=12", "--no-pager"]
        return run(["docker", "exec", node.name, *line], env=self.environment, timeout=20).last_lines
