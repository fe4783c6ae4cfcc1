"""Nodes made by Vagrant."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.host import lab_folder, locks
from labctl.host.process import LAST_LINES, Finished, last_lines, run
from labctl.model.errors import ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Node
from labctl.model.limits import NORMAL, Limits
from labctl.providers import vagrant_home
from labctl.providers.protocol import Trouble

if TYPE_CHECKING:
    from labctl.providers.vagrant_program import Vagrant

LOCK = "vagrant.lock"
"""In the lab's folder; held by whatever creates or removes its nodes."""
BUSY_SECONDS = 300.0
"""How long a Vagrant that works on the lab already may take."""
NAME_TAKEN = "container-name-taken"
PASSING = ("container-vanished", NAME_TAKEN)
"""What ends a `vagrant up` and is over when it is repeated.

Vagrant's docker provider inspects every container of the Engine, and one may go away meanwhile. The Engine finishes a
container that it was asked for also when whoever asked was killed: its name is taken before it can be seen.
"""
UNIT_STATE = ("systemctl", "show", "labctl-node", "--property=ActiveState,NRestarts")
RESTARTS = 3
"""How often systemd may start the assembly again, every two seconds, before the node counts as failed."""


class VagrantProvider:
    """The nodes of the Vagrantfile in `folder`: what is the same for every hypervisor that Vagrant drives."""

    in_parallel = False
    """Whether Vagrant can make several nodes at a time."""
    watch: Callable[[], object] | None = None
    """Raises an error when what Vagrant waits for can no longer come."""

    def __init__(self, folder: Path, hypervisor: str, environment: Mapping[str, str], limits: Limits = NORMAL) -> None:
        self.folder = folder
        self.hypervisor = hypervisor
        self.environment = environment
        self.limits = limits

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Run `vagrant up` for these nodes; a failure has the last lines of their consoles among its details."""
        with self._acting(report) as program:
            self._clear([node.name for node in nodes])
            try:
                self._boot(program, [node.name for node in nodes])
            except ProviderError as error:
                error.details += tuple(
                    f"{node.name}: {line}" for node in nodes for line in self._console(node, LAST_LINES)
                )
                raise

    def _boot(self, program: Vagrant, names: Sequence[str]) -> None:
        """Run `vagrant up`; a passing failure is tried once more."""
        try:
            program.up_all(names, self.hypervisor)
        except ProviderError as error:
            if error.id not in PASSING:
                raise
            self._clear(names, is_taken=error.id == NAME_TAKEN)
            program.up_all(names, self.hypervisor)

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return an ssh line: the same login as `vagrant ssh`, without the two seconds Vagrant takes to look it up."""
        options = ["-i", str(self.folder / lab_folder.SSH_KEY), "-F", "none", "-o", "LogLevel=ERROR"]
        # A server refuses whoever offers the many keys of an agent first, and a password can only be another machine's.
        options += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        # Every boot makes new host keys, at addresses that other labs have as well.
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        line = ["ssh", *options, f"vagrant@{node.address}"]
        # As with ssh itself, one word is a line for the node's shell; several are a program and its arguments.
        return [*line, "--", command[0] if len(command) == 1 else shlex.join(command)] if command else line

    def ask(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command on the node by ssh, as root."""
        return run(self.command(node, ("sudo", *command)), timeout=seconds)

    def trouble(self, node: Node) -> Trouble | None:
        """Return whether the node's labctl-node unit has given up; not known while the node cannot be reached."""
        try:
            finished = self.ask(node, UNIT_STATE, self.limits.node_command)
        except ProviderError:
            return None  # it boots, or hangs: `up` waits for it as long as for any other
        return assembly_trouble(node, finished)

    def _console(self, node: Node, lines: int) -> tuple[str, ...]:  # noqa: ARG002 - no console is known
        """Return the last lines that the node's machine wrote to its console."""
        return ()

    def _clear(self, names: Collection[str], *, is_taken: bool = False) -> None:
        """Remove what an interrupted run left of these nodes; no Vagrant works on the lab meanwhile.

        `is_taken` says that a name of theirs was found taken.
        """

    @contextmanager
    def _acting(self, report: Progress) -> Iterator[Vagrant]:
        """Hold the lab's lock for Vagrant: wait for a Vagrant that a killed labctl left running."""
        with locks.alone(self.folder / LOCK, report, timeout=BUSY_SECONDS) as lock:
            yield self._vagrant(report, (lock.fileno(),))

    def _vagrant(self, report: Progress, locks_held: tuple[int, ...] = ()) -> Vagrant:
        from labctl.providers.vagrant_program import Vagrant  # noqa: PLC0415 - python-vagrant warns where vagrant is absent

        environment = vagrant_home.named_in(self.environment)
        return Vagrant(self.folder, environment, report, locks_held, in_parallel=self.in_parallel, watch=self.watch)


def journal(unit: str, lines: int) -> tuple[str, ...]:
    """Return the command that prints a unit's last lines on a node; with their times, where they are many."""
    output = "cat" if lines <= LAST_LINES else "short-iso"
    return ("journalctl", f"--unit={unit}", f"--output={output}", f"--lines={lines}", "--no-pager")


def tail(written: Finished, lines: int) -> tuple[str, ...]:
    """Return the last lines of what a program printed; or of all that it said, where it failed."""
    return last_lines(written.out, lines) if written.code == 0 else written.last_lines


def assembly_trouble(node: Node, unit: Finished) -> Trouble | None:
    """Return what the state of a node's labctl-node unit means for those who wait for the node."""
    state = dict(line.partition("=")[::2] for line in unit.out.splitlines())
    restarts = int(state.get("NRestarts") or 0)
    if unit.code == 0 and (state.get("ActiveState") == "failed" or restarts >= RESTARTS):
        return Trouble(is_running=True, text=f"node {node.name} cannot assemble itself, in {restarts + 1} attempts")
    return None
