"""libvirt: whether it answers this user, and has the plugin, pool and networks that the lab's machines need."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from labctl.context import Context
from labctl.doctor import conditions
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.doctor.packages import as_root
from labctl.host import libvirt
from labctl.host.libvirt import SYSTEM, URI_VARIABLE, Mark, Network, Pool
from labctl.host.machine import Machine
from labctl.host.parsing import last_line, parse_version, version_text
from labctl.host.paths import real
from labctl.host.routes import routes
from labctl.model.sentences import clause
from labctl.providers.libvirt_network import LibvirtNetworks, free_subnets, no_subnet_error

POOL = "default"
"""The storage pool that vagrant-libvirt uses, and creates if it is missing."""
POOL_FOLDER = Path("/var/lib/libvirt/images")
"""Where that pool is created."""
MACHINE_SPACE, IMAGE_SPACE = 3 << 30, 2 << 30
"""Bytes of a machine's disk in use (measured), and of the base image that all disks share."""
GIB = 1 << 30
OWN_VAGRANT = Path("/opt/vagrant")
"""Where HashiCorp's package installs Vagrant, which does not see the plugins of a distribution's packages."""

UNUSABLE = "libvirt cannot be used; see `libvirt`"


def check_libvirt(_context: Context, machine: Machine) -> Finding:
    """Check that the libvirt daemon is on this machine and answers this user. LIBVIRT_DEFAULT_URI names it."""
    where = libvirt.uri(machine.environment)
    result = libvirt.run_virsh(machine, "version", "--daemon")
    if result is None:
        return not_relevant("virsh is not installed; see `tools`")
    if not libvirt.is_local_system(where):
        return broken(
            f"{URI_VARIABLE} is {where}: labctl needs this machine's own libvirt, to create networks",
            f"Unset {URI_VARIABLE}, or set it to {SYSTEM}.",
            cause="libvirt-uri-unusable",
        )
    if result.code != 0:
        return _no_libvirt(where, "\n".join(result.last_lines), machine)
    daemon = parse_version(r"Running against daemon: (\d+(?:\.\d+)+)", result.out)
    qemu = parse_version(r"Running hypervisor: QEMU (\d+(?:\.\d+)+)", result.out)
    return ok(f"libvirt {version_text(daemon)} with QEMU {version_text(qemu)} at {where}")


def check_plugin(_context: Context, machine: Machine) -> Finding:
    """Check that Vagrant has the plugin for libvirt and can load its plugins."""
    plugins = machine.run("vagrant", "plugin", "list")
    if plugins is None:
        return not_relevant("vagrant is not installed; see `tools`")
    if plugins.code != 0:
        return broken(
            f"Vagrant cannot load its plugins: {last_line(plugins.last_lines)}",
            "`vagrant plugin repair`; after an update of Vagrant, `vagrant plugin expunge --reinstall`.",
            cause="vagrant-plugins-broken",
        )
    if plugin := re.search(r"^vagrant-libvirt \(([^,)]+)", plugins.out, re.MULTILINE):
        return ok(f"vagrant-libvirt {plugin[1]}")
    is_own = bool(machine.names(OWN_VAGRANT))
    by_apt = f"{as_root(machine)}apt-get install vagrant-libvirt"
    install = "vagrant plugin install vagrant-libvirt" if is_own else by_apt
    return broken("Vagrant has no plugin vagrant-libvirt", f"`{install}`")


def check_pool(context: Context, machine: Machine) -> Finding:
    """Check that the storage pool of the machines' disks is active, and has room for new machines."""
    if not is_usable(machine):
        return not_relevant(UNUSABLE)
    if (pool := _pool(machine)) is None:
        free = machine.free_space(POOL_FOLDER)
        return _with_room(context, f"no pool {POOL} yet, which the lab creates in {POOL_FOLDER}", free)
    if not pool.is_active:
        start, always = (_line(machine, f"pool-{each}", POOL) for each in ("start", "autostart"))
        return broken(
            f"libvirt's storage pool {POOL} ({pool.path}) is not started",
            f"{start}; and {always}, which starts it together with libvirt.",
        )
    owner = f", of user {pool.owner}, mode {pool.mode}" if pool.owner else ""
    return _with_room(
        context, f"pool {POOL} ({pool.kind}) in {pool.path}{owner}, which libvirt writes to", _free(pool, machine)
    )


def check_networks(context: Context, machine: Machine) -> Finding:
    """Check that no other network of libvirt overlaps the lab's network, or has its name."""
    if not is_usable(machine):
        return not_relevant(UNUSABLE)
    lab = context.lab
    mark = Mark(lab.name, str(real(context.folder)))
    names = {f"labctl-{lab.name}", f"labctl-{lab.name}-nat"}
    known = [each for each in libvirt.networks(machine) if not (each.name in names and each.mark == mark)]
    for each in known:
        if each.name in names:
            whose = f"it belongs to the lab in {each.mark.folder}" if each.mark else "labctl did not create it"
            return broken(
                f"libvirt's network {each.name} has the name that this lab needs, and {whose}",
                f"Give this lab another --name; or remove the network: {_removal(each, machine)}.",
            )
    taken = [each for each in known if any(lab.network.overlaps(address.network) for address in each.addresses)]
    if taken and not conditions.not_created(context) and all(_is_routed(each, machine) for each in taken):
        return not_relevant(f"{clause(taken, 'is', 'are')} routed; see `network`")
    if taken:
        whose = ", ".join(f"{each}, {' '.join(str(own.network) for own in each.addresses)}" for each in taken)
        # Vagrant would join it by its subnet, and remove it together with the lab.
        return broken(
            f"network {lab.network}: taken by {whose}",
            f"Choose another `network` in labctl.yaml; or remove the other one, if it is not needed: {_removal(taken[0], machine)}.",
            cause="network-taken",
        )
    return ok(f"{len(known)} other networks, none in {lab.network}")


def check_management(context: Context, machine: Machine) -> Finding:
    """Check that a subnet is free for the lab's management network, by which Vagrant reaches the machines."""
    if not is_usable(machine):
        return not_relevant(UNUSABLE)
    own = LibvirtNetworks(context.lab, context.folder)
    known = libvirt.networks(machine)
    old = [address.network for each in known if each.name == own.management for address in each.addresses]
    if old and own.management in libvirt.active_networks(machine):
        return ok(f"{own.management} has {old[0]}")
    others = [each for each in known if each.name != own.management]
    if free := free_subnets(machine, context.lab, others, old):
        return ok(f"{own.management} gets {free[0]}, which nothing uses")
    error = no_subnet_error(own.management)
    return broken(error.message, error.hint)


def is_usable(machine: Machine) -> bool:
    """Return whether the URI names this machine's own libvirt and it answers this user."""
    return libvirt.is_local_system(libvirt.uri(machine.environment)) and libvirt.responds(machine)


def _no_libvirt(where: str, output: str, machine: Machine) -> Finding:
    """Return why libvirt does not answer this user."""
    socket = re.search(r"Failed to connect socket to '([^']+)': Permission denied", output)
    failure = f"libvirt at {where} does not answer: {last_line(output.splitlines()).removeprefix('error: ')}"
    if socket or "polkit" in output:
        return broken(failure, _access_hint(socket[1] if socket else "", machine), cause="libvirt-forbidden")
    if "emulator" in output:
        return broken(failure, f"Install QEMU: `{as_root(machine)}apt-get install qemu-system-x86`.")
    return broken(
        failure,
        "`sudo systemctl enable --now libvirtd.socket`; where libvirt has several daemons (Fedora): "
        "`sudo systemctl enable --now virtqemud.socket virtnetworkd.socket virtstoraged.socket`.",
        cause="libvirt-unreachable",
    )


def _access_hint(socket: str, machine: Machine) -> str:
    """Return how this user gets access: through the group of libvirt's socket, effective from the next login."""
    owned = machine.run("stat", "--format=%G", socket) if socket else None
    group = owned.out.strip() if owned is not None and owned.code == 0 else ""
    group = "libvirt" if group in {"", "root", "UNKNOWN"} else group
    user = machine.environment.get("USER", "")
    members = machine.run("id", "--name", "--groups", user) if user else None
    if members is not None and group in members.out.split():
        return f"Log in again: {user} has become a member of the group {group} since this login."
    return f"`sudo usermod -aG {group} $USER`, then log in again."


def _pool(machine: Machine) -> Pool | None:
    return next((each for each in libvirt.pools(machine) if each.name == POOL), None)


def _free(pool: Pool, machine: Machine) -> int:
    """Return the free bytes of a pool; libvirt also counts those that the file system reserves for root."""
    return min(pool.available, machine.free_space(Path(pool.path))) if pool.path else pool.available


def _with_room(context: Context, description: str, free: int) -> Finding:
    """Check that a pool has room for the machines that do not exist yet."""
    if reason := conditions.with_new_nodes(context):
        return ok(f"{description}: {free / GIB:.1f} GiB free; {reason}")
    count = len(conditions.new_nodes(context))
    need = MACHINE_SPACE * count + (0 if conditions.not_created(context) else IMAGE_SPACE)
    space = f"{description}: {free / GIB:.1f} GiB free, {count} machines need {need / GIB:.0f} GiB"
    fix = "Make space there, or set fewer `workers`."
    return broken(space, fix, cause="libvirt-pool-full") if free < need else ok(space)


def _is_routed(network: Network, machine: Machine) -> bool:
    return any(route.device == network.bridge for route in routes(machine) or ())


def _removal(network: Network, machine: Machine) -> str:
    """Return the commands that stop and remove a network."""
    return " and ".join(_line(machine, each, network.name) for each in ("net-destroy", "net-undefine"))


def _line(machine: Machine, *arguments: str) -> str:
    """Return a virsh command for the user to run."""
    return f"`{shlex.join(libvirt.virsh(machine.environment, *arguments))}`"
