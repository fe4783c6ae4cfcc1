"""What the docker provider asks of labctl beyond Vagrant: image, network, and looks that do not cost 1.3 s each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import ProviderError
from labctl.events import Say
from labctl.lab import Node
from labctl.paths import remove_tree
from labctl.process import LAST_LINES, check, run
from labctl.providers import ASSEMBLY, Removed, Trouble
from labctl.providers.docker_network import STATE_LABEL, DockerNetwork, inspect, remove_idle
from labctl.providers.vagrant import LOG_SECONDS, UNIT_STATE, VagrantProvider, assembly_trouble, journal, tail

STOP_SECONDS = "10"
"""How long a node may take to stop what runs on it."""
DEFAULT_NETWORK = "bridge"
"""Docker's own network: every node is in it as well, and has its way out through it."""
VAGRANT_NETWORK = "vagrant_network"
"""How Vagrant's name for a network begins: earlier versions of labctl left the network to Vagrant."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of this lab, whether it runs or not."""

    id: str
    name: str
    runs: bool
    networks: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Return whether it has the lab's network: an interrupted `vagrant up` leaves it without."""
        return bool(self.networks - {DEFAULT_NETWORK})


class DockerProvider(VagrantProvider):
    """Nodes that are containers of the Docker Engine that DOCKER_HOST, or Docker's context, names."""

    def __init__(self, network: DockerNetwork) -> None:
        super().__init__(
            network.state, "docker", {**network.environment, "VAGRANT_HOME": str(network.state / "vagrant")}
        )
        self.network = network

    def running(self) -> frozenset[str]:
        """Return the names of the containers that run in the Engine, belong to this lab and have its network."""
        return frozenset(each.name for each in self._containers() if each.runs and each.is_whole)

    def take_system(self, image: str, system: Path, say: Say) -> None:
        """The Engine has the node's root filesystem, a tar archive, as an image of this name."""
        if run(["docker", "image", "inspect", "--format", "{{.Id}}", image], env=self.environment).code != 0:
            say(f"giving Docker the node's system, {image}")
            start = ["--change", 'CMD ["/sbin/init"]']
            check(["docker", "import", *start, system, image], env=self.environment)

    def up(self, nodes: Sequence[Node], say: Say) -> None:
        """Run `vagrant up` for these nodes in the lab's network, without what an interrupted run left of them.

        Raises ProviderError `lab-outdated` if an earlier version of labctl made the lab and it is halted.
        """
        wanted, known = {node.name for node in nodes}, self._known()
        made = [each for each in self._containers() if each.name in wanted]
        if old := [each.name for each in made if any(name.startswith(VAGRANT_NETWORK) for name in each.networks)]:
            raise ProviderError(
                f"an earlier version of labctl made {', '.join(old)}, in a network of Vagrant's",
                id="lab-outdated",
                hint=f"`labctl --name {self.network.lab} destroy`, then `labctl up`.",
            )
        if broken := [each.id for each in made if not each.is_whole or each.id not in known]:
            check(["docker", "rm", "--force", "--volumes", *broken], env=self.environment)
        self.network.ensure()
        super().up(nodes, say)

    def halt(self, names: Collection[str], say: Say) -> None:
        """Stop the containers, all at once, in good order."""
        with self._acting(say):
            say(f"stopping {', '.join(sorted(names))}")
            check(["docker", "stop", "-t", STOP_SECONDS, *sorted(names)], env=self.environment)

    def power_off(self, names: Collection[str], say: Say) -> None:
        """Kill the containers, all at once."""
        with self._acting(say):
            say(f"cutting the power of {', '.join(sorted(names))}")
            check(["docker", "kill", *sorted(names)], env=self.environment)

    def destroy(self, say: Say) -> Removed:
        """Remove the lab's containers and network, without the ten seconds that they would take to end in good order.

        Not by `vagrant destroy`: it removes other projects' networks, and needs a Vagrant that works.
        """
        with self._acting(say):
            containers = self._containers()
            old = {name for each in containers for name in each.networks if name.startswith(VAGRANT_NETWORK)}
            if containers:
                say(f"removing {', '.join(sorted(each.name for each in containers))}")
                if running := [each.id for each in containers if each.runs]:
                    run(["docker", "kill", *running], env=self.environment)  # all at once, as `rm` does not
                check(["docker", "rm", "--force", "--volumes", *(each.id for each in containers)], env=self.environment)
            left = [self.network.remove(), *self._remove_networks(old)]
            remove_tree(self.folder / ".vagrant")
        return Removed(bool(containers), "; ".join(filter(None, left)))

    def log(self, node: Node, unit: str = ASSEMBLY, lines: int = LAST_LINES) -> tuple[str, ...]:
        """Return the last lines of a unit on the node; of a container that does not run, its own last lines."""
        written = run(["docker", "exec", node.name, *journal(unit, lines)], env=self.environment, timeout=LOG_SECONDS)
        if written.code != 0:
            own = ["docker", "logs", f"--tail={lines}", node.name]
            written = run(own, env=self.environment, timeout=LOG_SECONDS)
        return tail(written, lines)

    def trouble(self, node: Node) -> Trouble | None:
        """Return whether the node's container has ended, or its labctl-node unit has given up."""
        only = ["--all", "--filter", f"name=^/?{node.name}$", "--format", "{{.Status}}"]
        status = check(["docker", "ps", *only], env=self.environment, timeout=20).strip()
        if not status.startswith("Up"):
            return Trouble(is_running=False, text=f"the container of node {node.name} does not run: {status or 'gone'}")
        return assembly_trouble(node, run(["docker", "exec", node.name, *UNIT_STATE], env=self.environment, timeout=20))

    def _remove_networks(self, names: Collection[str]) -> Iterator[str]:
        for name in sorted(names):
            if (found := inspect(name, self.environment)) is not None:
                yield remove_idle(found, self.environment)

    def _known(self) -> frozenset[str]:
        """Return the ids of the containers that Vagrant has made for this lab."""
        return frozenset(path.read_text() for path in self.folder.glob(".vagrant/machines/*/docker/id"))

    def _containers(self) -> list[Container]:
        """Return the lab's containers: those that Vagrant knows, and those that bear the lab's label."""
        known = self._known()
        if not known and not (self.folder / "Vagrantfile").exists():
            return []
        fields = ("{{.ID}}", "{{.Names}}", "{{.Status}}", "{{.Networks}}", f'{{{{.Label "{STATE_LABEL}"}}}}')
        listing = check(["docker", "ps", "--all", "--no-trunc", "--format", "\t".join(fields)], env=self.environment)
        rows = (line.split("\t") for line in listing.splitlines())
        return [
            Container(id, names.split(",")[0], status.startswith("Up"), frozenset(networks.split(",")))
            for id, names, status, networks, state in rows  # noqa: A001 - Docker's own word
            if id in known or state == self.network.owner
        ]
