"""Access of QEMU, which runs as a user of its own, to disks and seeds, and of libvirt to the files of consoles."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, not_relevant, ok, warning
from labctl.doctor.libvirt import POOL, UNUSABLE, is_usable
from labctl.host import lab_folder, libvirt
from labctl.host.libvirt import Pool
from labctl.host.machine import Machine

ENFORCED = Path("/sys/fs/selinux/enforce")
READABLE = re.compile(r":(virt_image_t|virt_content_t|svirt_image_t|virt_var_lib_t|nfs_t|cifs_t|fusefs_t):")
"""The SELinux types that QEMU may read or libvirt may relabel."""
WRITABLE = re.compile(r":object_r:(?!\w*_home_t(:|$))")
"""Labels that virtlogd may write to, as far as is known: SELinux's policy has no rule for files in a home."""
HIDDEN = re.compile(r"/(home/[^/]+|root)/\.")
"""A hidden folder in a home: libvirt's AppArmor profile denies access to all of them."""
PROFILE = "/etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper"
WORLD, GROUP, OWNER = 0o001, 0o010, 0o100
"""The mode bits that let others, the group and the owner traverse a folder."""


@dataclass(frozen=True, slots=True)
class Guard:
    """How libvirt confines QEMU: the names of its security models, and QEMU's user and group, None if unknown."""

    models: frozenset[str]
    user: int | None
    group: int | None


def check_access(context: Context, machine: Machine) -> Finding:
    """Check that file modes, AppArmor and SELinux let QEMU read the storage pool and libvirt write consoles."""
    if not is_usable(machine):
        return not_relevant(UNUSABLE)
    pool = next((each for each in libvirt.pools(machine) if each.name == POOL and each.path), None)
    if pool is None:
        return not_relevant("libvirt has no storage pool in a folder yet; see `libvirt-pool`")
    if (guard := _guard(machine)) is None:
        return not_relevant("libvirt does not report how it confines QEMU")
    return _obstacle(context, pool, guard, machine) or _reach(pool, guard)


def _obstacle(context: Context, pool: Pool, guard: Guard, machine: Machine) -> Finding | None:
    """Return what keeps QEMU out of the pool, or libvirt out of the folder of consoles; None if nothing does."""
    if closed := [str(folder) for folder in _closed_folders(Path(pool.path), guard, machine)]:
        return warning(
            f"{pool.path}: QEMU's user {guard.user} may not pass {', '.join(closed)}",
            f"`sudo setfacl -m u:{guard.user}:x {' '.join(closed)}`, or give the pool a folder elsewhere.",
        )
    if "selinux" in guard.models and (machine.read(ENFORCED) or "").strip() == "1":
        console = context.folder / lab_folder.CONSOLES
        for folder, allowed, kind in (
            (Path(pool.path), READABLE, "virt_image_t"),
            (console, WRITABLE, "virt_log_t"),
        ):
            if (label := _label(machine, folder)) and not allowed.search(label):
                return warning(
                    f"{folder}: SELinux may keep libvirt out, by the label {label}",
                    f"`sudo semanage fcontext -a -t {kind} '{folder}(/.*)?'`, then `mkdir -p {folder}` and "
                    f"`sudo restorecon -R {folder}`.",
                )
    if "apparmor" in guard.models and HIDDEN.match(pool.path):
        return warning(
            f"{pool.path}: AppArmor keeps libvirt out of hidden folders in a home",
            f"Give the pool a folder elsewhere, or allow this one in {PROFILE}.",
        )
    return None


def _reach(pool: Pool, guard: Guard) -> Finding:
    confined = ", ".join(sorted(guard.models - {"none", "dac"})) or "neither AppArmor nor SELinux"
    if guard.user is None:
        return ok(
            f"QEMU's user is unknown, so the file modes of {pool.path} were not checked; it is confined by {confined}"
        )
    return ok(f"QEMU runs as user {guard.user}, confined by {confined}, and reaches {pool.path}")


def _guard(machine: Machine) -> Guard | None:
    answer = libvirt.run_virsh(machine, "capabilities")
    if answer is None or answer.code != 0:
        return None
    models = ET.fromstring(answer.out).findall("host/secmodel")  # noqa: S314 - libvirt's own daemon wrote it
    labels = [label.text or "" for model in models for label in model.findall("baselabel")]
    ids = next((match for label in labels if (match := re.fullmatch(r"\+(\d+):\+(\d+)", label))), None)
    names = frozenset(model.findtext("model", "") for model in models)
    return Guard(names, int(ids[1]) if ids else None, int(ids[2]) if ids else None)


def _closed_folders(folder: Path, guard: Guard, machine: Machine) -> Iterator[Path]:
    """Yield this folder and those above it that QEMU's user may not traverse; root may traverse all of them."""
    for each in (*reversed(folder.parents), folder) if guard.user else ():
        match = re.fullmatch(r"(\d+):(\d+):([0-7]+)", _stat(machine, "%u:%g:%a", each))
        if match is None:
            continue  # this user cannot see it
        owner, group, mode = int(match[1]), int(match[2]), int(match[3], 8)
        needed = OWNER if owner == guard.user else GROUP if group == guard.group else WORLD
        if not mode & needed:
            yield each


def _label(machine: Machine, folder: Path) -> str:
    """Return the label of a folder; before it exists, the one that it will inherit from the nearest folder above."""
    return next(filter(None, (_stat(machine, "%C", each) for each in (folder, *folder.parents))), "")


def _stat(machine: Machine, form: str, path: Path) -> str:
    answer = machine.run("stat", f"--format={form}", str(path))
    return answer.out.strip() if answer is not None and answer.code == 0 else ""
