"""Nodes that are containers. Vagrant creates them; labctl does the rest with docker: a Vagrant call takes 1.3 s."""

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
from labctl.providers.protocol import CONSOLE, RESUMES, STATE_LABEL, LabNetwork, NodeFailure, Obstacle, Removed
from labctl.providers.vagrant import UNIT_STATE, VagrantProvider, assembly_failure, journal, output_tail

STOP_SECONDS = "10"
"""How long a node may take for a clean shutdown before Docker kills it."""
VAGRANT_NETWORK = "vagrant_network"
"""The prefix of Vagrant's names for networks: with earlier versions of labctl, Vagrant created the network."""
FROZEN = "(Paused)"
"""The suffix of the status of a paused container."""
RESTARTING = "Restarting"
BEING_REMOVED = ("Removal", "Dead")
"""The prefixes of the status of a container that the Engine is removing, or could not remove completely."""
ENGINE_SECONDS = 30.0
"""How long the Engine may take to list a container that it is creating, and to remove one."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of this lab, running or not."""

    id: str
    name: str
    status: str
    networks: frozenset[str]
    is_known: bool
    """Whether Vagrant has recorded that it created it."""

    @property
    def runs(self) -> bool:
        """Return whether it runs; a paused container does not."""
        return self.is_on and not self.is_paused and not self.status.startswith(RESTARTING)

    @property
    def is_paused(self) -> bool:
        """Return whether its processes are frozen."""
        return self.status.endswith(FROZEN)

    @property
    def is_on(self) -> bool:
        """Return whether it can be stopped: it runs, is paused, or the Engine is restarting it."""
        return self.status.startswith(("Up", RESTARTING))

    @property
    def old_networks(self) -> frozenset[str]:
        """Return the networks that Vagrant created for it."""
        return frozenset(name for name in self.networks if name.startswith(VAGRANT_NETWORK))

    def is_in(self, network: str) -> bool:
        """Return whether it is connected to the lab's network, which is Vagrant's last step."""
        return network in self.networks or bool(self.old_networks)

    def is_usable(self, network: str) -> bool:
        """Return whether Vagrant has completed it, or can: not if it was interrupted, or the Engine is removing it."""
        return (self.is_known or self.is_in(network)) and not self.status.startswith(BEING_REMOVED)


class DockerProvider(VagrantProvider):
    """Nodes that are containers of the Docker Engine that DOCKER_HOST, or Docker's context, names."""

    def __init__(self, network: DockerNetwork) -> None:
        self.vagrant_home = network.state / "vagrant"
        super().__init__(network.state, "docker", {**network.environment, "VAGRANT_HOME": str(self.vagrant_home)})
        self.lab_network = network

    def check(self, machine: Machine) -> Obstacle | None:
        """Return why no Docker Engine answers; None for an isolated lab, whose Engine is started when needed."""
        if self.lab_network.environment:
            return None
        answer = machine.run("docker", "version", "--format", "{{json .}}")
        if answer is None:
            return Obstacle("docker is not installed", "Install docker.io.", see="tools")
        return Obstacle("no Docker Engine answers", "Start Docker.", see="engine") if answer.code != 0 else None

    def running(self) -> frozenset[str]:
        """Return the names of this lab's containers that run and are connected to its network."""
        return frozenset(each.name for each in self._containers() if each.runs and each.is_in(self.lab_network.name))

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        """Stop the containers, or kill them, in one call; return the names of those that were on."""
        on = frozenset(each.name for each in self._containers() if each.is_on).intersection(names)
        if on:
            with self._locked_vagrant(report):
                report(f"{'powering off' if hard else 'stopping'} {', '.join(sorted(on))}")
                stop = ["kill"] if hard else ["stop", "-t", STOP_SECONDS]
                check(["docker", *stop, *sorted(on)], env=self.environment)
        return on

    def destroy(self, report: Progress) -> Removed:
        """Kill and remove the lab's containers, since a clean shutdown would take ten seconds; remove its network.

        Do not run `vagrant destroy`: it removes other projects' networks, and needs a working Vagrant.
        """
        with self._locked_vagrant(report):
            containers = self._containers()
            old = {name for each in containers for name in each.old_networks}
            if containers:
                report(f"removing {', '.join(sorted(each.name for each in containers))}")
                if running := [each.id for each in containers if each.is_on]:
                    run(["docker", "kill", *running], env=self.environment)  # in parallel, unlike `rm`
                self._remove([each.id for each in containers])
            left = [self.lab_network.remove(), *self._remove_networks(old)]
            remove_tree(self.folder / lab_folder.VAGRANT)
        return Removed(bool(containers), "; ".join(filter(None, left)))

    def run(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command in the node's container, as root, without using its network."""
        return run(["docker", "exec", node.name, *command], env=self.environment, timeout=seconds)

    def collect_logs(self, node: Node, units: Sequence[str], lines: int = LAST_LINES) -> Mapping[str, tuple[str, ...]]:
        """Return the last lines of units that can be read, and of the console, which a stopped container still has."""
        answers = {unit: self.run(node, journal(unit, lines), self.limits.node_log) for unit in units}
        logs = {unit: last_lines(answer.out, lines) for unit, answer in answers.items() if answer.code == 0}
        console = run(
            ["docker", "logs", f"--tail={lines}", node.name], env=self.environment, timeout=self.limits.node_log
        )
        return {**logs, CONSOLE: output_tail(console, lines)}

    def network(self) -> LabNetwork | None:
        """Return the lab's bridge, and the containers in it."""
        return self.lab_network.described()

    def failure(self, node: Node) -> NodeFailure | None:
        """Return a NodeFailure if the node's container does not run, or its labctl-node unit has failed."""
        only = ["--all", "--filter", f"name=^/?{node.name}$", "--format", "{{.Status}}"]
        status = check(["docker", "ps", *only], env=self.environment, timeout=20).strip()
        container = Container("", node.name, status, frozenset(), is_known=True)
        if not container.runs:
            text = f"the container of node {node.name} is not running: {status or 'gone'}"
            return NodeFailure(is_running=False, text=text, hint=RESUMES if container.is_paused else "")
        return assembly_failure(node, self.run(node, UNIT_STATE, 20))

    def _remove_unfinished(self, names: Collection[str], *, is_taken: bool = False) -> None:
        """Remove these nodes' unfinished containers, and Vagrant's own records; create the lab's network.

        Raises ProviderError `lab-outdated` if an earlier version of labctl created the lab and it is halted.
        """
        if is_taken:
            with suppress(NotReadyError):  # then Vagrant reports the taken name again
                until(
                    lambda: self._await_listed(names),
                    what="the container that the Engine makes",
                    timeout=ENGINE_SECONDS,
                )
        containers = [each for each in self._containers() if each.name in names]
        if old := [each.name for each in containers if each.old_networks]:
            raise ProviderError(
                f"an earlier version of labctl created {', '.join(old)} in a network of Vagrant's",
                id="lab-outdated",
                hint=f"`labctl --name {self.lab_network.lab} destroy`, then `labctl up`.",
            )
        if broken := [each.id for each in containers if not each.is_usable(self.lab_network.name)]:
            self._remove(broken)
        self._reset_records()
        self.lab_network.ensure()
        for each in containers:
            if each.is_usable(self.lab_network.name):
                self._adopt(each)

    def _adopt(self, container: Container) -> None:
        """Make Vagrant adopt a container with its data. Vagrant connects a stopped one to the network and starts it."""
        if container.is_paused:  # Vagrant would mistake it for a running one
            check(["docker", "unpause", container.id], env=self.environment)
        if container.is_on and not container.is_in(self.lab_network.name):
            check(["docker", "stop", "-t", STOP_SECONDS, container.id], env=self.environment)
        if not container.is_known:
            file = self.folder / lab_folder.VAGRANT / "machines" / container.name / "docker" / "id"
            write(file, container.id.encode())

    def _reset_records(self) -> None:
        """Remove Vagrant's records except the containers' ids: it fails on truncated files, and needs none of them."""
        remove_tree(self.vagrant_home)
        for path in self.folder.glob(".vagrant/**/*"):
            if path.name != "id" and not path.is_dir():
                path.unlink()

    def _await_listed(self, names: Collection[str]) -> Pending | None:
        """Return None once the Engine lists a container of one of these names."""
        listed = check(["docker", "ps", "--all", "--format", "{{.Names}}"], env=self.environment).split()
        return None if set(names).intersection(listed) else Pending("the Engine does not show it yet")

    def _remove(self, ids: Sequence[str]) -> None:
        """Remove containers with their volumes; wait for those that the Engine is already removing."""
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

    def _recorded_ids(self) -> frozenset[str]:
        """Return the ids of the containers that Vagrant has created for this lab."""
        return frozenset(path.read_text() for path in self.folder.glob(".vagrant/machines/*/docker/id"))

    def _containers(self) -> list[Container]:
        """Return the lab's containers: those that Vagrant has recorded, and those with the lab's label."""
        known = self._recorded_ids()
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
