"""The steps that halt or destroy a lab."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from labctl.context import Context
from labctl.host import hosts_entry, lab_folder
from labctl.model.errors import HostsError, UsageError
from labctl.model.events import NO_HOSTS, HostsEntry, Progress
from labctl.plans import boxes
from labctl.plans.plan import Outcome

MACHINES_HOSTS = Path("/etc/hosts")


def halt_nodes(context: Context, report: Progress, *, chosen: Collection[str] = (), hard_stop: bool = False) -> Outcome:
    """Halt all nodes, or the chosen ones. Disks and the lab's block in the hosts file are kept.

    A hard stop powers off at once, without a clean shutdown.
    """
    if context.isolated and not context.isolation.engine_runs():
        return Outcome(changed=False, text="the lab's Engine is not running")
    halted = context.provider.halt(chosen or [node.name for node in context.lab.possible_nodes], report, hard=hard_stop)
    return Outcome(bool(halted), f"{len(halted)} nodes halted")


def halt_isolation(context: Context, _report: Progress) -> Outcome:
    """Stop the Engine of an isolated lab; keep its network."""
    if context.isolated and (owner := context.isolation.other_owner()):
        return Outcome(changed=False, text=f"it is not running: the namespace belongs to the lab in {owner}")
    return Outcome(context.isolated and context.isolation.halt())


def remove_hosts(context: Context) -> bool:
    """Remove the lab's block from its hosts file; return whether the file changed."""
    return hosts_entry.remove(context.lab.hosts_file, context.lab.name, backup=context.folder / lab_folder.HOSTS_BACKUP)


def has_own_hosts(context: Context) -> bool:
    """Return whether the lab's hosts file belongs to its namespace and is removed with it."""
    return context.isolated and os.path.realpath(context.lab.hosts_file) == os.path.realpath(MACHINES_HOSTS)


def leave_hosts(context: Context, _report: Progress) -> Outcome:
    """Remove the lab's block from this machine's hosts file; if that fails, report what is left.

    The /etc/hosts of an isolated lab is removed with its namespace; any other file belongs to this machine.
    """
    if has_own_hosts(context):
        return Outcome(changed=False, hosts=NO_HOSTS)
    try:
        removed = remove_hosts(context)
    except hosts_entry.HostsPendingError as error:
        return Outcome(changed=False, text=error.text, hosts=error.entry)
    except HostsError as error:
        entry = HostsEntry("pending", f"{error.message}. {error.hint}")
        return Outcome(changed=False, text=f"pending: {error.message}", hosts=entry)
    return Outcome(removed, hosts=HostsEntry("written") if removed else NO_HOSTS)


def remove_nodes(context: Context, report: Progress) -> Outcome:
    """Remove the lab's nodes, volumes and network. Those of an isolated lab are removed with its Engine."""
    if context.isolated:
        return Outcome(changed=False, text="removed with the lab's own Engine")
    removed = context.provider.destroy(report)
    return Outcome(removed.changed, removed.left)


def remove_images(context: Context, _report: Progress) -> Outcome:
    """Remove the box and image of the lab's machines, unless other labs use them; report labctl's other boxes."""
    images, left = context.node_images, boxes.left_box(context.folder)
    if images is None:
        return Outcome(changed=False)
    return boxes.forget(images, left[1] if left else context.machine_box)


def remove_isolation(context: Context, _report: Progress) -> Outcome:
    """Remove the lab's namespace, processes, interfaces and rules; keep those of another lab of the same name."""
    if not context.isolated:
        return Outcome(changed=False)
    if owner := context.isolation.other_owner():
        return Outcome(changed=False, text=f"the namespace was kept: it belongs to the lab in {owner}")
    return Outcome(context.isolation.remove())


def forget_kubeconfig(context: Context, _report: Progress) -> Outcome:
    """Remove what `labctl kubeconfig --merge` added to the user's kubeconfig; if that fails, report what is left."""
    from labctl.cluster import user_kubeconfig  # noqa: PLC0415 - yaml takes 30 ms, and few plans read a kubeconfig

    try:
        return Outcome(user_kubeconfig.forget(context.folder / lab_folder.KUBECONFIG, context.lab.name))
    except UsageError as error:
        return Outcome(changed=False, text=f"the lab's entries are left: {error.message}")


def remove_state(context: Context, _report: Progress) -> Outcome:
    """Remove everything from the lab's folder except its logs, the copy of the hosts file, and the name of its box."""
    if not context.hypervisor.are_containers:
        boxes.record_left_box(context.folder, context.lab.provider, context.machine_box)
    lab_folder.empty(context.folder, lab_folder.KEPT)
    return Outcome(changed=True)


def remove_folder(context: Context, _report: Progress) -> Outcome:
    """Remove the lab's folder, including its logs."""
    lab_folder.empty(context.folder)
    context.folder.rmdir()
    return Outcome(changed=True)
