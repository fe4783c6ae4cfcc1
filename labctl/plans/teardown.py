"""The steps by which a lab goes: halted, with everything kept, or destroyed."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from labctl.context import Context
from labctl.host import hosts_entry, lab_folder
from labctl.model.errors import HostsError
from labctl.model.events import NO_HOSTS, HostsEntry, Progress
from labctl.plans.plan import Outcome

MACHINES_HOSTS = Path("/etc/hosts")


def halt_nodes(context: Context, report: Progress, *, chosen: Collection[str] = (), hard_stop: bool = False) -> Outcome:
    """No node runs; or none of those chosen, if any are. Disks stay, and so does the lab's block in the hosts file.

    A power cut lets nothing that runs on a node end in good order.
    """
    if context.isolated and not context.isolation.engine_runs():
        return Outcome(changed=False, text="the lab's Engine does not run")
    running = {name for name in context.provider.running() if name in chosen or not chosen}
    if running:
        context.provider.halt(running, report, hard=hard_stop)
    return Outcome(bool(running), f"{len(running)} nodes halted")


def halt_isolation(context: Context, _say: Progress) -> Outcome:
    """Stop the Engine of an isolated lab, and keep its network."""
    if context.isolated and (owner := context.isolation.other_owner()):
        return Outcome(changed=False, text=f"nothing of it runs: the namespace belongs to the lab in {owner}")
    return Outcome(context.isolated and context.isolation.halt())


def remove_hosts(context: Context) -> bool:
    """Remove the lab's block from its hosts file; True if the file changed."""
    return hosts_entry.remove(context.lab.hosts_file, context.lab.name, backup=context.folder / lab_folder.HOSTS_BACKUP)


def has_own_hosts(context: Context) -> bool:
    """Whether the lab's hosts file is that of its namespace, and goes with it."""
    return context.isolated and os.path.realpath(context.lab.hosts_file) == os.path.realpath(MACHINES_HOSTS)


def leave_hosts(context: Context, _say: Progress) -> Outcome:
    """Remove the lab's block from this machine's hosts file. Where that fails, the user learns what is left there.

    The /etc/hosts of an isolated lab goes with its namespace; another file is this machine's, as any lab's.
    """
    if has_own_hosts(context):
        return Outcome(changed=False, hosts=NO_HOSTS)
    try:
        removed = remove_hosts(context)
    except hosts_entry.LeftToUserError as error:
        return Outcome(changed=False, text=error.text, hosts=error.entry)
    except HostsError as error:
        entry = HostsEntry("pending", f"{error.message}. {error.hint}")
        return Outcome(changed=False, text=f"pending: {error.message}", hosts=entry)
    return Outcome(removed, hosts=HostsEntry("written") if removed else NO_HOSTS)


def remove_nodes(context: Context, report: Progress) -> Outcome:
    """Remove the lab's nodes, volumes and network. Those of an isolated lab go with its Engine, in any state of it."""
    if context.isolated:
        return Outcome(changed=False, text="they go with the lab's own Engine")
    removed = context.provider.destroy(report)
    return Outcome(removed.changed, removed.left)


def remove_isolation(context: Context, _say: Progress) -> Outcome:
    """Remove the namespace, processes, interfaces and rules of the lab; those of another lab of its name stay."""
    if not context.isolated:
        return Outcome(changed=False)
    if owner := context.isolation.other_owner():
        return Outcome(changed=False, text=f"the namespace was left: it belongs to the lab in {owner}")
    return Outcome(context.isolation.remove())


def remove_state(context: Context, _say: Progress) -> Outcome:
    """Remove everything from the lab's folder but its logs and the copy of the hosts file."""
    lab_folder.empty(context.folder, lab_folder.KEPT)
    return Outcome(changed=True)


def remove_folder(context: Context, _say: Progress) -> Outcome:
    """Remove the lab's folder with its logs."""
    lab_folder.empty(context.folder)
    context.folder.rmdir()
    return Outcome(changed=True)
