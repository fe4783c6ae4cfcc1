"""The `hosts` step: write the lab's hostnames into the hosts file, or leave that to the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from labctl.cluster import state
from labctl.context import Context
from labctl.doctor import preflight
from labctl.host import hosts_entry, lab_folder
from labctl.host.wait import Pending
from labctl.model.errors import NotReadyError
from labctl.model.events import NO_HOSTS, HostsEntry, Progress
from labctl.plans import teardown
from labctl.plans.plan import Outcome


def sync_hosts(context: Context, _report: Progress) -> Outcome:
    """Write the live address of every hostname into the hosts file, or leave it to the user if rights are missing."""
    try:
        return write_hosts(context)
    except hosts_entry.HostsPendingError as error:
        return Outcome(changed=False, text=error.text, hosts=error.entry)


def ask_to_write(context: Context) -> None:
    """Ask for the password if writing the apps' names needs one."""
    _ask(context, [app.hostname for app in context.lab.apps])


def ask_to_remove(context: Context) -> None:
    """Ask for the password if removing the lab's block needs one."""
    _ask(context, [])


def _ask(context: Context, names: Sequence[str]) -> None:
    if not teardown.has_own_hosts(context):
        hosts_entry.ask_password_if_needed(context.lab, names)


def write_hosts(context: Context) -> Outcome:
    """Write the names as `sync_hosts` does.

    Raises HostsError if rights are missing, MissingError `hostname-taken` if another lab has one of the names.
    """
    preflight.require_hostnames(context)
    names = live_addresses(context)
    changed = hosts_entry.sync(context.lab, names, backup=context.folder / lab_folder.HOSTS_BACKUP)
    text = " ".join(dict.fromkeys([*map(str, names.values()), *names])) or "no names"
    return Outcome(changed, text, HostsEntry("written") if names else NO_HOSTS)


def with_root_retry(context: Context, act: Callable[[Context], object], *, may_ask: bool) -> None:
    """Change the hosts file; if that needs root, try again after sudo's prompt. Raises as `act` does."""
    try:
        act(context)
    except hosts_entry.HostsPendingError:
        if not (may_ask and hosts_entry.ask_password(context.lab)):
            raise
        act(context)


def live_addresses(context: Context) -> dict[str, IPv4Address]:
    """Return the address of the ingress controller's Service for each hostname. Raises NotReadyError `no-address`."""
    controller = context.controller
    address = state.load_balancer_address(context.cluster, controller.namespace, controller.service)
    if isinstance(address, Pending):
        raise NotReadyError(
            f"no address for the hosts file: {address.reason}",
            id="no-address",
            hint="Run `labctl up` to complete the lab.",
        )
    return {app.hostname: address for app in context.lab.apps}
