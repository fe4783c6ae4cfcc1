"""Enter a lab's network namespace as `ip netns exec` does, but without starting Python again."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

# The kernel's numbers, from linux/sched.h and linux/mount.h. Python has the former, and setns, from 3.12 on.
CLONE_NEWNS = 0x0002_0000
CLONE_NEWNET = 0x4000_0000
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_SLAVE = 1 << 19

ETC = Path("/etc")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
MOUNTS = Path("/proc/self/mounts")


def enter(namespace: Path, settings: Path) -> None:
    """Move the calling thread, and everything that it starts afterwards, into the network namespace.

    /sys then shows that network's devices and the same control groups as before, and the files in `settings` replace
    those with the same names in /etc. This cannot be undone. Raises OSError; PermissionError if the user is not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(libc.setns(descriptor, CLONE_NEWNET), namespace)
    finally:
        os.close(descriptor)
    _checked(libc.unshare(CLONE_NEWNS), "a mount namespace")
    _mount(libc, "none", Path("/"), flags=MS_SLAVE | MS_REC)
    _replace_sys(libc, namespace.name)
    for file in settings.iterdir() if settings.is_dir() else ():
        if (ETC / file.name).exists():  # others are copies, or files of an editor
            _mount(libc, str(file), ETC / file.name, flags=MS_BIND)


def _replace_sys(libc: ctypes.CDLL, name: str) -> None:
    """Mount the network's own /sys over the machine's, with the machine's control groups in it."""
    groups = os.open(CONTROL_GROUPS, os.O_PATH | os.O_CLOEXEC)
    try:
        _mount(libc, name, Path("/sys"), kind="sysfs")
        _mount(libc, f"/proc/self/fd/{groups}", CONTROL_GROUPS, flags=MS_BIND | MS_REC)
    finally:
        os.close(groups)


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points in the folder, the last mounted first."""
    paths = [
        os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[1]))
        for line in MOUNTS.read_bytes().split(b"\n")
        if line
    ]
    return [path for path in reversed(paths) if Path(path).is_relative_to(os.path.realpath(folder))]


def _mount(libc: ctypes.CDLL, source: str, target: Path, kind: str = "none", flags: int = 0) -> None:
    words = (os.fsencode(source), os.fsencode(target), kind.encode())
    _checked(libc.mount(*words, ctypes.c_ulong(flags), None), target)


def _checked(result: int, what: object) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(what))
