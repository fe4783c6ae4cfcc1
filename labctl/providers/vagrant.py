"""Nodes that Vagrant creates."""

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
from labctl.providers.protocol import NodeFailure

if TYPE_CHECKING:
    from labctl.providers.vagrant_program import Vagrant

LOCK = "vagrant.lock"
"""The lock in the lab's folder that a process holds while it creates or removes nodes."""
BUSY_SECONDS = 300.0
"""How long to wait for another Vagrant that works on the lab."""
NAME_TAKEN = "container-name-taken"
TRANSIENT = ("container-vanished", NAME_TAKEN)
"""Transient failures of `vagrant up`, which is retried.

Vagrant's docker provider inspects every container of the Engine, and one may vanish meanwhile. The Engine completes a
requested container even if the client was killed: its name is taken before the container is listed.
"""
UNIT_STATE = ("systemctl", "show", "labctl-node", "--property=ActiveState,NRestarts")
RESTARTS = 3
"""How often systemd may restart the assembly, every two seconds, before the node counts as failed."""


class VagrantProvider:
    """The nodes of the Vagrantfile in `folder`: the part that is common to all hypervisors."""

    in_parallel = False
    """Whether Vagrant can create several nodes in parallel."""
    watch: Callable[[], object] | None = None
    """Raises an error if what Vagrant waits for can no longer happen."""

    def __init__(self, folder: Path, hypervisor: str, environment: Mapping[str, str], limits: Limits = NORMAL) -> None:
        self.folder = folder
        self.hypervisor = hypervisor
        self.environment = environment
        self.limits = limits

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Run `vagrant up` for these nodes; add the last lines of their consoles to the details of a failure."""
        with self._locked_vagrant(report) as program:
            self._remove_unfinished([node.name for node in nodes])
            try:
                self._boot(program, [node.name for node in nodes])
            except ProviderError as error:
                error.details += tuple(
                    f"{node.name}: {line}" for node in nodes for line in self._console(node, LAST_LINES)
                )
                raise

    def _boot(self, program: Vagrant, names: Sequence[str]) -> None:
        """Run `vagrant up`; retry once after a transient failure."""
        try:
            program.up_all(names, self.hypervisor)
        except ProviderError as error:
            if error.id not in TRANSIENT:
                raise
            self._remove_unfinished(names, is_taken=error.id == NAME_TAKEN)
            program.up_all(names, self.hypervisor)

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return an ssh command: the login of `vagrant ssh`, without the two seconds that Vagrant takes to find it."""
        options = ["-i", str(self.folder / lab_folder.SSH_KEY), "-F", "none", "-o", "LogLevel=ERROR"]
        # A server rejects a client that first offers an agent's many keys; only another machine asks for a password.
        options += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        # Every boot creates new host keys, at addresses that other labs use as well.
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        line = ["ssh", *options, f"vagrant@{node.address}"]
        # As with ssh itself, one word is a line for the node's shell; several are a program and its arguments.
        return [*line, "--", command[0] if len(command) == 1 else shlex.join(command)] if command else line

    def run(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command on the node over SSH, as root."""
        return run(self.command(node, ("sudo", *command)), timeout=seconds)

    def failure(self, node: Node) -> NodeFailure | None:
        """Return a NodeFailure if the node's labctl-node unit has failed; None if not, or if the node is unreachable."""
        try:
            finished = self.run(node, UNIT_STATE, self.limits.node_command)
        except ProviderError:
            return None  # it is booting or hangs: the time limit of `up` applies, as to any other node
        return assembly_failure(node, finished)

    def _console(self, node: Node, lines: int) -> tuple[str, ...]:  # noqa: ARG002 - no console is known
        """Return the last lines of the console of the node's machine."""
        return ()

    def _remove_unfinished(self, names: Collection[str], *, is_taken: bool = False) -> None:
        """Remove what an interrupted run left of these nodes. The caller holds the lab's lock for Vagrant.

        `is_taken` says that Vagrant found one of their names taken.
        """

    @contextmanager
    def _locked_vagrant(self, report: Progress) -> Iterator[Vagrant]:
        """Hold the lab's lock for Vagrant; wait for a Vagrant that a killed labctl left running."""
        with locks.exclusive(self.folder / LOCK, report, timeout=BUSY_SECONDS) as lock:
            yield self._vagrant(report, (lock.fileno(),))

    def _vagrant(self, report: Progress, locks_held: tuple[int, ...] = ()) -> Vagrant:
        from labctl.providers.vagrant_program import Vagrant  # noqa: PLC0415 - python-vagrant warns if vagrant is missing

        environment = vagrant_home.named_in(self.environment)
        return Vagrant(self.folder, environment, report, locks_held, in_parallel=self.in_parallel, watch=self.watch)


def journal(unit: str, lines: int) -> tuple[str, ...]:
    """Return the command that prints a unit's last lines on a node; with timestamps if more than LAST_LINES."""
    output = "cat" if lines <= LAST_LINES else "short-iso"
    return ("journalctl", f"--unit={unit}", f"--output={output}", f"--lines={lines}", "--no-pager")


def output_tail(written: Finished, lines: int) -> tuple[str, ...]:
    """Return the last lines of a program's standard output, or of all its output if it failed."""
    return last_lines(written.out, lines) if written.code == 0 else written.last_lines


def assembly_failure(node: Node, unit: Finished) -> NodeFailure | None:
    """Return a NodeFailure if the state of a node's labctl-node unit is failed, or shows too many restarts; else None."""
    state = dict(line.partition("=")[::2] for line in unit.out.splitlines())
    restarts = int(state.get("NRestarts") or 0)
    if unit.code == 0 and (state.get("ActiveState") == "failed" or restarts >= RESTARTS):
        return NodeFailure(
            is_running=True, text=f"node {node.name} failed to assemble itself in {restarts + 1} attempts"
        )
    return None
