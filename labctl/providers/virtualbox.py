"""Nodes that are VirtualBox machines. Vagrant creates and starts them; labctl does everything else with VBoxManage.

labctl never runs `vagrant destroy`: it also removes what Vagrant has not recorded as this lab's alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from labctl.host import lab_folder, locks, paths, virtualbox
from labctl.host.files import write
from labctl.host.machine import Machine
from labctl.host.parsing import version_text
from labctl.host.process import check, run
from labctl.host.virtualbox import PROGRAM, VirtualMachine
from labctl.host.wait import Pending, until
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Lab, Node
from labctl.providers import vagrant_home
from labctl.providers.machines import GONE, MachineProvider
from labctl.providers.protocol import LabNetwork, Obstacle, Removed
from labctl.providers.vagrant import BUSY_SECONDS

STATE = "labctl/state"
"""The key of a machine's extra data that names the lab's folder; the Vagrantfile sets it."""
IMPORTS = "virtualbox.lock"
"""The lock in the cache that a lab holds during imports, so that no other mistakes its machine for a leftover."""
UNFINISHED = re.compile(r"labctl-.+_\d{13}_\d{1,5}")
"""Vagrant's name for a machine that it imports from one of labctl's boxes, until it sets the node's name."""
LOCKED_SECONDS = 20.0
"""How long VirtualBox may take to release a machine that was powered off."""


class VirtualBoxProvider(MachineProvider):
    """Nodes that are machines in the user's VirtualBox."""

    def __init__(self, lab: Lab, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(lab, folder, "virtualbox", environment)

    def check(self, machine: Machine) -> Obstacle | None:
        """Return why VirtualBox cannot start machines, or that Vagrant does not support this VirtualBox."""
        return obstacle(machine)

    def running(self) -> frozenset[str]:
        """Return the names of the lab's machines that run."""
        return self._names_in_state(lambda state: state in virtualbox.RUNNING)

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        """Run `vagrant up` for these nodes while no other lab does; add their consoles' last lines to a failure."""
        with locks.exclusive(paths.cache() / IMPORTS, report, timeout=BUSY_SECONDS):
            super().up(nodes, report)

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        """Shut the machines down in parallel, and wait; power off those that are still on after the time limit.

        Power off machines that are on and do not run as well: they ignore the power button.
        """
        on = self._active().intersection(names)
        if on:
            with self._locked_vagrant(report):
                report(f"{'powering off' if hard else 'shutting down'} {', '.join(sorted(on))}")
                if not hard:
                    self._shut_down(on & self.running(), report)
                for each in self._on():
                    if each.name in on:
                        self._power_off(each)
        return on

    def destroy(self, report: Progress) -> Removed:
        """Remove the lab's machines with their disks. The host-only interface, which any machine may use, stays."""
        if shutil.which(PROGRAM) is None:
            return Removed(changed=False, left=f"{PROGRAM} is not installed: the lab's machines, if any, were left")
        with self._locked_vagrant(report):
            machines = self._machines()
            if machines:
                report(f"removing {', '.join(sorted(each.name for each in machines))}")
            for each in self._on():
                self._power_off(each)
            for each in machines:
                remove(each)
            paths.remove_tree(self.folder / lab_folder.VAGRANT)
            vagrant_home.forget(self.folder)
        return Removed(bool(machines))

    def network(self) -> LabNetwork | None:
        """Return the host-only interface with this machine's address in the lab's network, and the machines in it."""
        interface = virtualbox.addresses(Machine()).get(self.lab.gateway)
        members = {node.mac: f"machine {node.name}" for node in self.lab.nodes}
        return LabNetwork(interface, members) if interface else None

    def _remove_unfinished(self, names: Collection[str], *, is_taken: bool = False) -> None:  # noqa: ARG002 - Vagrant checks names first
        """Remove machines that an interrupted import left, and Vagrant's own records except the machines' ids.

        Raises ProviderError `machine-not-ours` if a machine of a node's name is not this lab's.
        """
        machines = self._machines()
        for each in {*self._list("vms")} - {*machines}:
            if each.name in names:
                raise ProviderError(
                    f"VirtualBox's machine {each.name} is not this lab's",
                    id="machine-not-ours",
                    hint="Give this lab another --name, or, if nobody needs the machine, remove it: "
                    f"`{PROGRAM} unregistervm {each.uuid} --delete`.",
                )
        remove_unfinished()
        for each, state in self._states().items():
            if state == virtualbox.STUCK and each.name in names:
                self._power_off(each)
        self._write_ids(machines)

    def _write_ids(self, machines: Collection[VirtualMachine]) -> None:
        """Reduce Vagrant's records to these machines' ids: Vagrant fails on truncated files, and needs only the ids."""
        ids = {each.uuid for each in machines}
        for path in self.folder.glob(".vagrant/**/*"):
            if not path.is_dir() and not (path.name == "id" and path.read_text(encoding="ascii") in ids):
                path.unlink()
        for each in machines:
            if each.name in {node.name for node in self.lab.nodes}:
                write(
                    self.folder / lab_folder.VAGRANT / "machines" / each.name / "virtualbox" / "id", each.uuid.encode()
                )

    def _machines(self) -> list[VirtualMachine]:
        """Return the lab's machines: those recorded by Vagrant, and those with a node's name and the lab's mark."""
        known = {path.read_text(encoding="ascii") for path in self.folder.glob(".vagrant/machines/*/virtualbox/id")}
        names = {node.name for node in self.lab.possible_nodes}
        return [
            each for each in self._list("vms") if each.uuid in known or (each.name in names and self._is_marked(each))
        ]

    def _is_marked(self, machine: VirtualMachine) -> bool:
        """Return whether the machine's extra data names this lab's folder."""
        answer = check([PROGRAM, "getextradata", machine.uuid, STATE])
        return answer.rstrip("\n") == f"Value: {paths.real(self.folder)}"

    def _states(self) -> dict[VirtualMachine, str]:
        """Return the state of each of the lab's machines, as VirtualBox names it."""
        described = {each: run([PROGRAM, "showvminfo", each.uuid, "--machinereadable"]) for each in self._machines()}
        return {each: virtualbox.state(answer.out) for each, answer in described.items()}

    def _on(self) -> list[VirtualMachine]:
        """Return the lab's machines that are not off."""
        return [each for each, state in self._states().items() if state not in virtualbox.OFF]

    def _active(self) -> frozenset[str]:
        return self._names_in_state(lambda state: state not in virtualbox.OFF)

    def _state(self, name: str) -> str:
        state = next((state for each, state in self._states().items() if each.name == name), GONE)
        return "" if state in virtualbox.RUNNING else state

    def _names_in_state(self, has: Callable[[str], bool]) -> frozenset[str]:
        return frozenset(each.name for each, state in self._states().items() if has(state))

    def _press_power_button(self, name: str) -> None:
        run([PROGRAM, "controlvm", name, "acpipowerbutton"])

    @staticmethod
    def _list(what: str) -> tuple[VirtualMachine, ...]:
        return virtualbox.machines(check([PROGRAM, "list", what]))

    @staticmethod
    def _power_off(machine: VirtualMachine) -> None:
        run([PROGRAM, "controlvm", machine.uuid, "poweroff"])  # may fail: it may be off by now


def obstacle(machine: Machine) -> Obstacle | None:
    """Return why this machine's VirtualBox cannot run nodes, with the fix."""
    answer = virtualbox.installed(machine)
    if answer is None:
        newest = version_text(virtualbox.NEWEST)
        return Obstacle(
            f"{PROGRAM} is not installed", f"Install VirtualBox, version {newest} or older.", see="virtualbox"
        )
    installed, output = answer
    if not installed:
        return Obstacle(
            f"VirtualBox cannot start machines: {output.splitlines()[0] if output else 'it prints nothing'}",
            "Build its kernel module: `sudo /sbin/vboxconfig`, and check that Secure Boot lets it load.",
            see="virtualbox",
        )
    return _unsupported_by_vagrant(installed, virtualbox.vagrant_version(machine))


def remove(machine: VirtualMachine) -> None:
    """Remove a machine that is off, with its disks; retry while VirtualBox still locks it after the power-off."""

    def unregister() -> Pending | None:
        answer = run([PROGRAM, "unregistervm", machine.uuid, "--delete"])
        return None if answer.code == 0 else Pending("\n".join(answer.last_lines))

    try:
        until(unregister, what=f"the removal of VirtualBox's machine {machine.name}", timeout=LOCKED_SECONDS)
    except NotReadyError as error:
        raise ProviderError(error.message, id="machine-not-removed", hint="Close its window in VirtualBox.") from error


def remove_unfinished() -> None:
    """Remove the machines that an interrupted import left: those with a name of Vagrant's that no lab has recorded."""
    noted = {
        path.read_text(encoding="ascii") for path in paths.state_home().glob("*/.vagrant/machines/*/virtualbox/id")
    }
    for each in virtualbox.machines(check([PROGRAM, "list", "vms"])):
        if UNFINISHED.fullmatch(each.name) and each.uuid not in noted:
            remove(each)


def _unsupported_by_vagrant(installed: tuple[int, ...], vagrant: tuple[int, ...]) -> Obstacle | None:
    """Return an Obstacle if Vagrant does not support this VirtualBox, with the versions that do as the fix."""
    text = f"Vagrant {version_text(vagrant)} does not support VirtualBox {version_text(installed)}" if vagrant else ""
    if installed[:2] > virtualbox.NEWEST:
        newest = version_text(virtualbox.NEWEST)
        return Obstacle(
            text or f"no version of Vagrant supports VirtualBox {version_text(installed)} yet",
            f"Install VirtualBox {newest}, the newest version that Vagrant supports.",
            see="virtualbox",
        )
    needed = virtualbox.VAGRANT_SINCE.get(installed[:2], ())
    if vagrant and vagrant < needed:
        older = [version_text(known) for known, since in virtualbox.VAGRANT_SINCE.items() if since <= vagrant]
        or_older = f", or VirtualBox {older[-1]}" if older else ""
        return Obstacle(text, f"Install Vagrant {version_text(needed)} or newer{or_older}.", see="virtualbox")
    return None
