"""Nodes that are libvirt machines. Vagrant creates and starts them; labctl does everything else with virsh.

labctl never runs `vagrant destroy`: it removes any network with the lab's subnet, whoever created it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from labctl.host import accelerator, lab_folder, locks
from labctl.host.files import write
from labctl.host.libvirt import URI_VARIABLE, is_local_system, run_virsh, uri
from labctl.host.machine import Machine
from labctl.host.paths import READABLE, remove_tree
from labctl.model.errors import ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Lab, Node
from labctl.providers import libvirt_domains, vagrant_home, virsh
from labctl.providers.libvirt_domains import Domain, domains, running
from labctl.providers.libvirt_network import LibvirtNetworks
from labctl.providers.libvirt_volumes import Disks, Pool
from labctl.providers.machines import GONE, MachineProvider
from labctl.providers.protocol import LabNetwork, Obstacle, Removed
from labctl.providers.vagrant import BUSY_SECONDS, LOCK

RUNS = ("running", "idle", "in shutdown")
"""The prefixes of libvirt's states of a machine whose processor runs, or waits."""
CRASHED = "crashed"
"""The prefix of the state of a machine whose crashed guest is kept for inspection: it can only be powered off."""


class LibvirtProvider(MachineProvider):
    """Nodes that are machines of the libvirt that LIBVIRT_DEFAULT_URI names."""

    in_parallel = True
    watch = staticmethod(partial(virsh.run_virsh, "version", "--daemon"))

    def __init__(self, lab: Lab, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(lab, folder, "libvirt", virsh.vagrant(environment))
        self.networks = LibvirtNetworks(lab, folder)
        self.pool = Pool()
        self.disks = Disks(self.pool)

    def check(self, machine: Machine) -> Obstacle | None:
        """Return why libvirt does not answer, or is not the system daemon, which alone can create networks."""
        if (answer := run_virsh(machine, "version", "--daemon")) is None:
            return Obstacle("virsh is not installed", "Install libvirt.", see="tools")
        if not is_local_system(uri(machine.environment)):
            return Obstacle(f"{URI_VARIABLE} names another libvirt", f"Unset {URI_VARIABLE}.", see="libvirt")
        return Obstacle("libvirt does not answer", "Start libvirt.", see="libvirt") if answer.code != 0 else None

    def running(self) -> frozenset[str]:
        """Return the names of the lab's machines that run."""
        return frozenset(each.name for each in self._domains()) & running()

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        """Shut the machines down in parallel, and wait; power off those that are still on after the time limit.

        Power off paused machines as well, such as QEMU leaves on a full disk: they ignore the power button.
        """
        on = frozenset(each.name for each in self._domains()).intersection(names, libvirt_domains.active())
        if on:
            with locks.exclusive(self.folder / LOCK, report, timeout=BUSY_SECONDS):
                report(f"{'powering off' if hard else 'shutting down'} {', '.join(sorted(on))}")
                if not hard:
                    self._shut_down(on & running(), report)
                for name in sorted(libvirt_domains.active() & on):
                    virsh.run_virsh("destroy", name)  # may fail: the machine may be off by now
        return on

    def destroy(self, report: Progress) -> Removed:
        """Remove the lab's machines, their disks and seeds, and its networks; leave foreign ones of the same names."""
        if shutil.which("virsh") is None:
            return Removed(changed=False, left="virsh is not installed: the lab's machines, if any, were left")
        with locks.exclusive(self.folder / LOCK, report, timeout=BUSY_SECONDS):
            nodes = [node.name for node in self.lab.possible_nodes]
            theirs = {each.name for each in domains(nodes) if not each.belongs_to(self.folder)}
            ours = self._domains()
            if ours:
                self.pool.require()  # it has their disks
                report(f"removing {', '.join(each.name for each in ours)}")
            for each in ours:
                libvirt_domains.remove(each)
            removed = self.disks.remove(node for node in nodes if node not in theirs)
            left = [*(f"machine {name} is not this lab's and was left" for name in sorted(theirs))]
            left += self.networks.remove()
            remove_tree(self.folder / lab_folder.VAGRANT)
            vagrant_home.forget(self.folder)
        return Removed(bool(ours or removed), "; ".join(left))

    def network(self) -> LabNetwork | None:
        """Return the lab's bridge, and the machines in it."""
        if not (bridge := self.networks.bridge()):
            return None
        macs = {each.interfaces.get(self.networks.name, ""): f"machine {each.name}" for each in self._domains()}
        return LabNetwork(bridge, {mac: name for mac, name in macs.items() if mac})

    def _remove_unfinished(self, names: Collection[str], *, is_taken: bool = False) -> None:  # noqa: ARG002 - no name is taken here
        """Remove these nodes' unfinished machines, and Vagrant's own records; create networks and seeds.

        Raises ProviderError `machine-not-ours` if a machine of a node's name is not this lab's.
        """
        self.pool.require()
        nodes = [node for node in self.lab.nodes if node.name in names]
        existing = {each.name: each for each in domains(names)}
        for each in existing.values():
            if not each.belongs_to(self.folder):
                raise ProviderError(
                    f"libvirt's machine {each.name}: it is not this lab's ({each.description or 'it has no description'})",
                    id="machine-not-ours",
                    hint="Give this lab another --name, or, if nobody needs the machine, remove it: "
                    f"`{virsh.command_text('destroy', each.name)}` if it runs, and `{virsh.command_text('undefine', each.name)}`.",
                )
        self.networks.ensure()
        volumes = self.disks.paths()
        usable = {
            node.name for node in nodes if node.name in existing and self._is_whole(existing[node.name], node, volumes)
        }
        for name in sorted(set(existing) - usable):
            libvirt_domains.remove(existing[name])
        self.disks.remove(name for name in names if name not in usable)
        self._reset_records()
        for name in sorted(usable & libvirt_domains.active()):
            if libvirt_domains.state(name).startswith(CRASHED):
                virsh.run_virsh("destroy", name)
        kind = "kvm" if accelerator.kvm(Machine()).is_usable else "qemu"
        for name in sorted(usable):
            if existing[name].kind != kind:
                libvirt_domains.change_kind(existing[name], kind)
            write(self._id_file(name), existing[name].uuid.encode())
        for node in nodes:
            self.disks.seed(node.name, self.folder / lab_folder.seed(node.name), self.folder)
            # libvirt gives the file to QEMU's user and then to root, so the lab's user needs this mode to read it,
            # whatever the umask is. The lab's folder keeps other users out.
            console = self.folder / lab_folder.console(node.name)
            write(console, b"")
            console.chmod(READABLE)

    def _is_whole(self, domain: Domain, node: Node, volumes: Collection[str]) -> bool:
        """Return whether Vagrant completed the machine: with its disk, and in both networks."""
        wanted = {self.networks.name, self.networks.management}
        is_connected = set(domain.interfaces) == wanted and domain.interfaces[self.networks.name] == node.mac
        return is_connected and bool(domain.disks) and all(disk in volumes for disk in domain.disks)

    def _reset_records(self) -> None:
        """Remove Vagrant's records except current ids: Vagrant fails on truncated files, and needs only the ids."""
        for path in self.folder.glob(".vagrant/**/*"):
            if not path.is_dir() and path.name != "id":
                path.unlink()
        known = {each.name: each.uuid for each in self._domains()}
        for path in self.folder.glob(".vagrant/machines/*/libvirt/id"):
            if path.read_text() != known.get(path.parts[-3]):
                path.unlink()

    def _id_file(self, name: str) -> Path:
        return self.folder / lab_folder.VAGRANT / "machines" / name / "libvirt" / "id"

    def _domains(self) -> tuple[Domain, ...]:
        """Return the lab's machines: those with the lab's mark."""
        nodes = [node.name for node in self.lab.possible_nodes]
        return tuple(each for each in domains(nodes) if each.belongs_to(self.folder))

    def _state(self, name: str) -> str:
        state = libvirt_domains.state(name) or GONE
        return "" if state.startswith(RUNS) else state

    def _active(self) -> frozenset[str]:
        return libvirt_domains.active()

    def _press_power_button(self, name: str) -> None:
        virsh.run_virsh("shutdown", name)
