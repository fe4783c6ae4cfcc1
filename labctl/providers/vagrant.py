"""Nodes made by Vagrant (the only user of python-vagrant)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import vagrant

from labctl.host import lab_folder, locks, tool_environment
from labctl.host.process import LAST_LINES, Finished, check, failure, last_lines, run, stream
from labctl.model.errors import ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Node
from labctl.providers.protocol import ASSEMBLY, Removed, Trouble

BUSY_SECONDS = 300.0
"""How long a Vagrant that works on the lab already may take."""
NAME_TAKEN = "container-name-taken"
PASSING = ("container-vanished", NAME_TAKEN)
"""What ends a `vagrant up` and is over when it is repeated.

Vagrant's docker provider inspects every container of the Engine, and one may go away meanwhile. The Engine finishes a
container that it was asked for also when whoever asked was killed: its name is taken before it can be seen.
"""
HEADLINE = re.compile(r"==> (?P<machine>[^:]+): (?P<text>.*)")
"""The lines of Vagrant's output that say what it does; the others say how."""
LOG_SECONDS = 20.0


UNIT_STATE = ("systemctl", "show", "labctl-node", "--property=ActiveState,NRestarts")
RESTARTS = 3
"""How often systemd may start the assembly again, every two seconds, before the node counts as failed."""
LOOK_SECONDS = 5.0


class VagrantProvider:
    """The nodes of the Vagrantfile in `folder`. Implements Provider for every hypervisor Vagrant drives."""

    def __init__(self, folder: Path, hypervisor: str, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.hypervisor = hypervisor
        self.environment = environment

    def running(self) -> frozenset[str]:
        """Return the names of the nodes that Vagrant sees running; takes Vagrant's 1.3 s."""
        try:
            machines = _Vagrant(self.folder, self.environment, _silent).status()
        except ValueError as error:
            raise ProviderError(f"`vagrant status` failed: {error}", id="vagrant-status") from error
        return frozenset(machine.name for machine in machines if machine.state == "running")

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Run `vagrant up` for these nodes; a passing failure is tried once more."""
        names = [node.name for node in nodes]
        with self._acting(report) as program:
            self._clear(names)
            try:
                program.up_all(names, self.hypervisor)
            except ProviderError as error:
                if error.id not in PASSING:
                    raise
                self._clear(names, is_taken=error.id == NAME_TAKEN)
                program.up_all(names, self.hypervisor)

    def halt(self, names: Collection[str], report: Progress) -> None:
        """Run `vagrant halt`: these nodes do not run, each keeps its disk."""
        with self._acting(report) as program:
            program.halt_all(names)

    def power_off(self, names: Collection[str], report: Progress) -> None:
        """Run `vagrant halt --force`, which asks nothing of what runs on the nodes."""
        with self._acting(report) as program:
            program.halt_all(names, "--force")

    def destroy(self, report: Progress) -> Removed:
        """Run `vagrant destroy`; there is nothing to do where no machine was ever made."""
        with self._acting(report) as program:
            made = any(self.folder.glob(".vagrant/machines/*/*/id"))
            if made:
                program.destroy()
        return Removed(made)

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        """Return an ssh line: the same login as `vagrant ssh`, without the two seconds Vagrant takes to look it up."""
        options = ["-i", str(self.folder / lab_folder.SSH_KEY), "-F", "none", "-o", "LogLevel=ERROR"]
        # Every boot makes new host keys, at addresses that other labs have as well.
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        line = ["ssh", *options, f"vagrant@{node.address}"]
        # As with ssh itself, one word is a line for the node's shell; several are a program and its arguments.
        return [*line, "--", command[0] if len(command) == 1 else shlex.join(command)] if command else line

    def ask(self, node: Node, command: Sequence[str], seconds: float) -> Finished:
        """Run a command on the node by ssh, as root."""
        return run(self.command(node, ("sudo", *command)), timeout=seconds)

    def log(self, node: Node, unit: str = ASSEMBLY, lines: int = LAST_LINES) -> tuple[str, ...]:
        """Return the last lines of a unit on the node, or why they cannot be had."""
        return tail(self.ask(node, journal(unit, lines), LOG_SECONDS), lines)

    def trouble(self, node: Node) -> Trouble | None:
        """Return whether the node's labctl-node unit has given up; not known while the node cannot be reached."""
        try:
            finished = self.ask(node, UNIT_STATE, LOOK_SECONDS)
        except ProviderError:
            return None  # it boots, or hangs: `up` waits for it as long as for any other
        return assembly_trouble(node, finished)

    def _clear(self, names: Collection[str], *, is_taken: bool = False) -> None:
        """Remove what an interrupted run left of these nodes; no Vagrant works on the lab meanwhile.

        `is_taken` says that a name of theirs was found taken.
        """

    @contextmanager
    def _acting(self, report: Progress) -> Iterator[_Vagrant]:
        """Vagrant, while no other one works on the lab: what a killed labctl left at work is waited for."""
        with locks.alone(self.folder / "vagrant.lock", report, timeout=BUSY_SECONDS) as lock:
            yield _Vagrant(self.folder, self.environment, report, (lock.fileno(),))


class _Vagrant(vagrant.Vagrant):  # type: ignore[misc]
    """python-vagrant, with all that Vagrant says kept: by itself it sends stderr, and so every reason, to null."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], report: Progress, locks_held: tuple[int, ...] = ()
    ) -> None:
        # One machine after the other: the docker provider's parallel `up` fails more often than not.
        ours = {"VAGRANT_NO_PARALLEL": "1", "VAGRANT_CHECKPOINT_DISABLE": "1", "LABCTL_UP": "1"}
        super().__init__(root=folder, env=tool_environment.environment("vagrant", {**environment, **ours}))
        self.report = report
        self.locks_held = locks_held
        """Descriptors of files whose locks Vagrant holds as long as it runs, whatever becomes of labctl."""

    def up_all(self, names: Sequence[str], provider: str) -> None:
        """Like `up`, which takes one name, or none for all: a second call would cost Vagrant's 1.3 s again."""
        self._call_vagrant_command(["up", *names, f"--provider={provider}"])

    def halt_all(self, names: Iterable[str], *options: str) -> None:
        """Like `halt`, which takes one name, or none for all."""
        self._call_vagrant_command(["halt", *sorted(names), *options])

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        # A machine that failed to boot is the evidence of why; Vagrant would destroy it.
        keep = ["--no-destroy-on-error"] if args[0] == "up" else []
        command = self._make_vagrant_command([*args, *keep])
        finished = stream(command, self._tell, env=self.env, cwd=Path(self.root), keep_open=self.locks_held)
        if finished.code != 0:
            hint = "Run the same command again to resume."
            error = ProviderError(f"`{shlex.join(command)}` failed", id="vagrant-failed", hint=hint)
            raise failure(error, finished.out)

    def _run_vagrant_command(self, args: Sequence[str | None]) -> str:
        return check(self._make_vagrant_command(args), env=self.env, cwd=Path(self.root))

    def _tell(self, line: str) -> None:
        if headline := HEADLINE.fullmatch(line):
            self.report(f"{headline['machine']}: {headline['text']}")


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


def _silent(_line: str) -> None:
    """Queries are quick; their lines are nobody's progress."""
