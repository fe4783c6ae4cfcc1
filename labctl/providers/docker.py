"""Nodes that are containers. Vagrant creates them; what would cost its 1.3 s each time, labctl asks Docker itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from labctl.host import lab_folder
from labctl.host.files import write
from labctl.host.machine import Machine
from labctl.host.paths import remove_tree
from labctl.host.process import LAST_LINES, Finished, check, failure, last_lines, run
from labctl.host.wait import Pending, until
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Node
from labctl.providers.docker_network import DockerNetwork, inspect, remove_idle
from labctl.providers.protocol import CONSOLE, RESUMES, STATE_LABEL, LabNetwork, Obstacle, Removed, Trouble
from labctl.providers.vagrant import UNIT_STATE, VagrantProvider, assembly_trouble, journal, tail

STOP_SECONDS = "10"
"""How long a node may take to stop what runs on it."""
VAGRANT_NETWORK = "vagrant_network"
"""How Vagrant's name for a network begins: earlier versions of labctl left the network to Vagrant."""
FROZEN = "(Paused)"
"""How the status ends of a container whose processes are frozen."""
RESTARTING = "Restarting"
GOING = ("Removal", "Dead")
"""How the status begins of a container that the Engine removes, or could not remove to the end."""
ENGINE_SECONDS = 30.0
"""How long the Engine may take to show a container that it makes, and to remove one."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of this lab, whether it runs or not."""

    id: str
    name: str
    status: str
    networks: frozenset[str]
    is_known: bool
    """Whether Vagrant has written down that it made it."""

    @property
    def runs(self) -> bool:
        """Return whether it runs; one that is paused does not."""
        return self.is_on and not self.is_paused and not self.status.startswith(RESTARTING)

    @property
    def is_paused(self) -> bool:
        """Return whether its processes are frozen."""
        return self.status.endswith(FROZEN)

    @property
    def is_on(self) -> bool:
        """Return whether it can be stopped: it runs, is paused, or the Engine starts it again."""
        return self.status.startswith(("Up", RESTARTING))

    @property
    def old_networks(self) -> frozenset[str]:
        """Return the networks that Vagrant made for it."""
        return frozenset(name for name in self.networks if name.startswith(VAGRANT_NETWORK))

    def is_in(self, network: str) -> bool:
        """Return whether it has the lab's network, which Vagrant gives it last."""
        return network in self.networks or bool(self.old_networks)

    def is_usable(self, network: str) -> bool:
        """Return whether Vagrant made it to the end, or can finish it: not where it was interrupted, or is removed."""
        return (self.is_known or self.is_in(network)) and not self.status.startswith(GOING)


class DockerProvider(VagrantProvider):
    """Nodes that are containers of the Docker Engine that DOCKER_HOST, or Docker's context, names."""

    def __init__(self, network: DockerNetwork) -> None:
        self.vagrant_home = network.state / "vagrant"
        super().__init__(network.state, "docker", {**network.environment, "VAGRANT_HOME": str(self.vagrant_home)})
        self.lab_network = network

    def check(self, machine: Machine) -> Obstacle | None:
        """Return why no Docker Engine answers; the Engine of an isolated lab is started when it is needed."""
        if self.lab_network.environment:
            return None
        answer = machine.run("docker", "version", "--format", "{{json .}}")
        if answer is None:
            return Obstacle("there is no docker", "Install docker.io.", see="tools")
        return Obstacle("no Docker Engine answers", "Start Docker.", see="engine") if answer.code != 0 else None

    def running(self) -> frozenset[str]:
        """Return the names of the containers that run in the Engine, belong to this lab and have its network."""
        return frozenset(each.name for each in self._containers() if each.runs and each.is_in(self.lab_network.name))

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        """Stop, or kill, the containers, all at once."""
        on = frozenset(each.name for each in self._containers() if each.is_on).intersection(names)
        if on:
            with self._acting(report):
                report(f"{'powering off' if hard else 'stopping'} {', '.join(sorted(on))}")
                stop = ["kill"] if hard else ["stop", "-t", STOP_SECONDS]
                check(["docker", *stop, *sorted(on)], env=self.environment)
        return on

    def destroy(self, report: Progress) -> Removed:
        """Remove the lab's containers and network, without the ten seconds that they would take to end in good order.

        Not by `vagrant destroy`: it removes other projects' networks, and needs a Vagrant that works.
        """
        with self._acting(report):
            containers = self._containers()
            old = {name for each in containers for name in each.old_networks}
            if containers:
                report(f"removing {', '.join(sorted(each.name for each in containers))}")
                if running := [each.id for each in containers if each.is_on]:
                    run(["docker", "kill", *running], env=self.environment)  # all at once, as `rm` does not
                self._remove([each.id for each in containers])
            left = [self.lab_network.remove(), *self._remove_networks(old)]
            remove_tree(self.folder / lab_folder.VAGRANT)
        return Removed(bool(containers), "; ".join(filter(None, left)))

    def ask(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command in the node's container, as root, whatever its network is like."""
        return run(["docker", "exec", node.name, *command], env=self.environment, timeout=seconds)

    def collect_logs(self, node: Node, units: Sequence[str], lines: int = LAST_LINES) -> Mapping[str, tuple[str, ...]]:
        """Return the last lines of units that can be read, and of the console, which a container has when it ended too."""
        answers = {unit: self.ask(node, journal(unit, lines), self.limits.node_log) for unit in units}
        logs = {unit: last_lines(answer.out, lines) for unit, answer in answers.items() if answer.code == 0}
        console = run(
            ["docker", "logs", f"--tail={lines}", node.name], env=self.environment, timeout=self.limits.node_log
        )
        return {**logs, CONSOLE: tail(console, lines)}

    def network(self) -> LabNetwork | None:
        """Return the lab's bridge, and the containers in it."""
        return self.lab_network.described()

    def trouble(self, node: Node) -> Trouble | None:
        """Return whether the node's container has ended, or its labctl-node unit has given up."""
        only = ["--all", "--filter", f"name=^/?{node.name}$", "--format", "{{.Status}}"]
        status = check(["docker", "ps", *only], env=self.environment, timeout=20).strip()
        container = Container("", node.name, status, frozenset(), is_known=True)
        if not container.runs:
            text = f"the container of node {node.name} is not running: {status or 'gone'}"
            return Trouble(is_running=False, text=text, hint=RESUMES if container.is_paused else "")
        return assembly_trouble(node, self.ask(node, UNIT_STATE, 20))

    def _clear(self, names: Collection[str], *, is_taken: bool = False) -> None:
        """Remove these nodes' unfinished containers, and what Vagrant keeps for itself; make the lab's network.

        Raises ProviderError `lab-outdated` if an earlier version of labctl made the lab and it is halted.
        """
        if is_taken:
            with suppress(NotReadyError):  # whoever has the name, Vagrant says so once more
                until(lambda: self._unseen(names), what="the container that the Engine makes", timeout=ENGINE_SECONDS)
        containers = [each for each in self._containers() if each.name in names]
        if old := [each.name for each in containers if each.old_networks]:
            raise ProviderError(
                f"an earlier version of labctl made {', '.join(old)}, in a network of Vagrant's",
                id="lab-outdated",
                hint=f"`labctl --name {self.lab_network.lab} destroy`, then `labctl up`.",
            )
        if broken := [each.id for each in containers if not each.is_usable(self.lab_network.name)]:
            self._remove(broken)
        self._forget()
        self.lab_network.ensure()
        for each in containers:
            if each.is_usable(self.lab_network.name):
                self._hand_over(each)

    def _hand_over(self, container: Container) -> None:
        """Make Vagrant take a container, with all that is on it, as it is; it connects what does not run."""
        if container.is_paused:  # Vagrant takes it for one that runs
            check(["docker", "unpause", container.id], env=self.environment)
        if container.is_on and not container.is_in(self.lab_network.name):
            check(["docker", "stop", "-t", STOP_SECONDS, container.id], env=self.environment)
        if not container.is_known:
            file = self.folder / lab_folder.VAGRANT / "machines" / container.name / "docker" / "id"
            write(file, container.id.encode())

    def _forget(self) -> None:
        """Remove what Vagrant keeps but the containers' ids: it cannot go on with a file that was cut off, and needs none."""
        remove_tree(self.vagrant_home)
        for path in self.folder.glob(".vagrant/**/*"):
            if path.name != "id" and not path.is_dir():
                path.unlink()

    def _unseen(self, names: Collection[str]) -> Pending | None:
        """Return None once the Engine shows a container of one of these names."""
        listed = check(["docker", "ps", "--all", "--format", "{{.Names}}"], env=self.environment).split()
        return None if set(names).intersection(listed) else Pending("the Engine does not show it yet")

    def _remove(self, ids: Sequence[str]) -> None:
        """Remove containers with their volumes; those that the Engine removes already are waited for."""
        line = ["docker", "rm", "--force", "--volumes", *ids]
        removed = run(line, env=self.environment)
        if removed.code == 0:
            return

        def left() -> Pending | None:
            listed = check(["docker", "ps", "--all", "--quiet", "--no-trunc"], env=self.environment).split()
            return Pending(" ".join(there)) if (there := sorted(set(ids).intersection(listed))) else None

        try:
            until(left, what="the removal of containers", timeout=ENGINE_SECONDS)
        except NotReadyError as error:
            problem = ProviderError(f"containers could not be removed: {', '.join(ids)}", id="tool-failed")
            raise failure(problem, "\n".join(removed.last_lines)) from error

    def _remove_networks(self, names: Collection[str]) -> Iterator[str]:
        for name in sorted(names):
            if (description := inspect(name, self.environment)) is not None:
                yield remove_idle(description, self.environment)

    def _known(self) -> frozenset[str]:
        """Return the ids of the containers that Vagrant has made for this lab."""
        return frozenset(path.read_text() for path in self.folder.glob(".vagrant/machines/*/docker/id"))

    def _containers(self) -> list[Container]:
        """Return the lab's containers: those that Vagrant knows, and those that bear the lab's label."""
        known = self._known()
        if not known and not (self.folder / lab_folder.VAGRANTFILE).exists():
            return []
        fields = ("{{.ID}}", "{{.Names}}", "{{.Status}}", "{{.Networks}}", f'{{{{.Label "{STATE_LABEL}"}}}}')
        listing = check(["docker", "ps", "--all", "--no-trunc", "--format", "\t".join(fields)], env=self.environment)
        rows = (line.split("\t") for line in listing.splitlines())
        return [
            Container(id, names.split(",")[0], status, frozenset(networks.split(",")), id in known)
            for id, names, status, networks, state in rows  # noqa: A001 - Docker's own word
            if id in known or state == self.lab_network.owner
        ]
