"""Checks of this machine: capabilities, kernel, memory and disk."""

from __future__ import annotations

import re
from pathlib import Path

from labctl.bundle.build.recipe import GO_CACHE_SPACE, SPACE
from labctl.context import Context
from labctl.doctor import conditions, packages
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.doctor.libvirt import MACHINE_SPACE
from labctl.host import accelerator
from labctl.host.docker_engine import has_all_capabilities, proxy_mode
from labctl.host.machine import Machine

STATUS = Path("/proc/self/status")
MEMORY = Path("/proc/meminfo")
MOUNTS = Path("/proc/mounts")
RELEASE = Path("/proc/sys/kernel/osrelease")
LOADED = Path("/proc/modules")
MODULES = Path("/lib/modules")
ENGINE_DATA = Path("/var/lib/docker")

NET_ADMIN, SYS_ADMIN = 12, 21
"""Bits of the capabilities that a network namespace requires."""
NEEDED_MODULES = ("br_netfilter", "nf_conntrack", "nf_nat", "nf_tables", "overlay", "veth")
CONTAINER_NODE = 400
"""MiB that a node in a container uses (measured); `memory` is only its limit."""
LAB_SPACE = 3 << 30
"""Bytes of disk space that a lab's nodes use, measured with two nodes."""
BOX_SPACE = 1 << 30
"""Bytes that a box uses in Vagrant's folder."""
GIB = 1 << 30
NO_OVERLAY = ("overlay", "aufs", "nfs", "nfs4", "9p")
"""File systems that cannot be the upper layer of an overlay."""


def check_capabilities(context: Context, machine: Machine) -> Finding:
    """Check that the process has the capabilities that the lab needs."""
    status = machine.read(STATUS)
    if status is None:
        return not_relevant("this system has no capabilities")
    who = "root" if machine.is_root else "an ordinary user"
    held = int(_field(status, "CapEff") or "0", 16)
    lacking = [
        name for name, bit in (("CAP_NET_ADMIN", NET_ADMIN), ("CAP_SYS_ADMIN", SYS_ADMIN)) if not held >> bit & 1
    ]
    if context.isolated and lacking:
        return broken(f"{who}, without {' and '.join(lacking)}", "Run labctl where root has all capabilities.")
    if not has_all_capabilities(status):
        return ok(f"{who}; CAP_SYS_RESOURCE is missing: an Engine before 23 gives nodes a fixed set of capabilities")
    return ok(f"{who}; nodes get all capabilities from the Engine")


def check_kvm(context: Context, machine: Machine) -> Finding:
    """Check that virtual machines can use KVM."""
    acceleration = accelerator.kvm(machine)
    if acceleration.is_usable:
        return ok("virtual machines use KVM")
    return warning(accelerator.emulation_consequence(acceleration, context.lab.slowness), acceleration.fix)


def check_cgroups(_context: Context, machine: Machine) -> Finding:
    """Check that the control groups that containers need are mounted."""
    mounts = machine.read(MOUNTS)
    if mounts is None:
        return not_relevant("nodes use the kernel of Docker's virtual machine")
    types = {words[1]: words[2] for line in mounts.splitlines() if len(words := line.split()) > 2}  # noqa: PLR2004 - source, folder, type
    if types.get("/sys/fs/cgroup") == "cgroup2":
        return ok("version 2")
    if types.get("/sys/fs/cgroup/memory") == "cgroup":
        return ok("version 1; the kubelet is configured to accept it")
    mount = f"{packages.as_root(machine)}mount -t cgroup2 none /sys/fs/cgroup"
    return broken("no control groups are mounted on /sys/fs/cgroup", f"Mount them: `{mount}`.")


def check_kernel(_context: Context, machine: Machine) -> Finding:
    """Check that the kernel has the modules that nodes need."""
    release = (machine.read(RELEASE) or "").strip()
    if not release:
        return not_relevant("nodes use the kernel of Docker's virtual machine")
    kernel = f"Linux {release}, kube-proxy by {proxy_mode(release)}"
    listings = [machine.read(path) for path in _module_listings(release)]
    known = " ".join(filter(None, listings))
    if not any(listings[1:]):
        return ok(f"{kernel}; it does not list its modules")
    # Names of modules are spelt with - or _, which the kernel treats as equal.
    absent = [name for name in NEEDED_MODULES if not re.search(rf"\b{name.replace('_', '[-_]')}\b", known)]
    if absent:
        packages = (
            "Install the kernel's modules (Debian: `linux-image-amd64`, Ubuntu: `linux-modules-extra-$(uname -r)`)"
        )
        return warning(
            f"{kernel}; without {', '.join(absent)}", f"{packages}, or reboot into the kernel that was installed."
        )
    return ok(kernel)


def check_memory(context: Context, machine: Machine) -> Finding:
    """Check that there is enough free memory for the lab's nodes."""
    text = machine.read(MEMORY)
    if text is None:
        return not_relevant("this system has no /proc/meminfo")
    is_vm = not context.hypervisor.are_containers
    count = len(conditions.new_nodes(context))
    need = count * (context.lab.memory if is_vm else CONTAINER_NODE)
    total, free = (int(_field(text, key).split()[0]) >> 10 for key in ("MemTotal", "MemAvailable"))
    memory = f"{free} MiB of {total} MiB are free; {count} nodes need about {need} MiB"
    if total < need or (is_vm and free < need):  # a virtual machine takes all of its memory, a container what it uses
        return broken(memory, "Set fewer `workers`" + (", or less `memory`, or end other programs." if is_vm else "."))
    return warning(memory, "End other programs, or set fewer `workers`.") if free < need else ok(memory)


def check_filesystem(context: Context, machine: Machine) -> Finding:
    """Check that the file system of the Engine's data can hold overlays."""
    mounts = machine.read(MOUNTS)
    if mounts is None:
        return not_relevant("the nodes use the disk of Docker's virtual machine")
    home = _engine_data(context, machine)
    if home is None:
        return not_relevant(f"the Engine's data is not in {ENGINE_DATA}")
    mounted = [(words[1], words[2]) for line in mounts.splitlines() if len(words := line.split()) > 2]  # noqa: PLR2004 - as above
    # Of several mounts in one place, the last one is visible.
    holding = [(len(place), kind) for place, kind in mounted if home.is_relative_to(place)]
    kind = max(reversed(holding), key=lambda pair: pair[0])[1] if holding else ""
    if kind not in NO_OVERLAY:
        return ok(f"{home} is on {kind}" if kind else f"{home}: its file system is unknown")
    return broken(
        f"{home} is on {kind}, and nodes that keep their images there cannot start a pod",
        "Set XDG_STATE_HOME to a folder on a file system such as ext4 or xfs."
        if context.isolated
        else f"Mount a file system such as ext4 at {ENGINE_DATA}, for example a volume.",
    )


def check_disk(context: Context, machine: Machine) -> Finding:
    """Check that the disk has room for the lab, and for the bundle if there is none yet."""
    home, need = _place(context, machine)
    free = machine.free_space(home)
    space = f"{home}: {free / GIB:.1f} GiB free, {need / GIB:.0f} GiB needed"
    if free < need:
        return broken(space, "Free disk space there, or set XDG_STATE_HOME to a folder on a larger disk.")
    in_cache, for_bundle = machine.free_space(context.cache), SPACE + GO_CACHE_SPACE
    if not context.has_bundle and in_cache < for_bundle:
        # Only a warning: a build needs less if it resumes an interrupted one or finds results in Go's caches.
        space += (
            f"; {context.cache}: {in_cache / GIB:.1f} GiB free, building the bundle takes up to {for_bundle / GIB:.0f}"
        )
        return warning(space, "Free disk space there, or set XDG_CACHE_HOME and GOCACHE to folders on a larger disk.")
    return ok(space)


def _place(context: Context, machine: Machine) -> tuple[Path, int]:
    """Return the folder in which new nodes use disk space, and how much; libvirt's pool has a check of its own."""
    count, is_made = len(conditions.new_nodes(context)), bool(conditions.not_created(context))
    if context.hypervisor.are_containers:
        need = count * (LAB_SPACE // 2) if is_made else LAB_SPACE
        return _engine_data(context, machine) or context.folder, need
    box = 0 if is_made else BOX_SPACE
    if context.lab.provider == "libvirt":
        return context.folder, box
    properties = machine.run("VBoxManage", "list", "systemproperties")
    folder = re.search(r"^Default machine folder:\s*(.+)$", properties.out if properties else "", re.MULTILINE)
    return Path(folder[1]) if folder else context.folder, box + MACHINE_SPACE * count


def _engine_data(context: Context, machine: Machine) -> Path | None:
    """Return the folder of the data of the lab's Engine; None if this user cannot see it."""
    if context.isolated:
        return context.folder
    return ENGINE_DATA if machine.names(ENGINE_DATA) else None


def _module_listings(release: str) -> tuple[Path, ...]:
    """Return the lists of the kernel's modules: loaded, built in, and loadable."""
    folder = MODULES / release
    return LOADED, folder / "modules.builtin", folder / "modules.dep"


def _field(text: str, key: str) -> str:
    """Return the value of a `Key: value` line; empty if there is none."""
    match = re.search(rf"^{key}:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else ""
