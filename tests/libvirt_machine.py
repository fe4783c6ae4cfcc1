"""A machine with its own libvirt, made of Linux namespaces.

It has its own processes, mounts and network, and a user in group libvirt; its programs are this machine's. The network
has no uplink, so that no packet for a lab's address leaves it. (`unreachable` routes would not do: libvirt takes the
addresses of a route as used.) When its first process exits, the kernel kills all others.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import packages
from e2e.reallab import LABCTL, Completed, eventually, execute, run

USER, UID = "labber", 4711
"""An ordinary user in group libvirt."""
HYPERVISOR = "libvirt-qemu"
"""The user and group of QEMU."""
GROUP = "libvirt"
HOME = Path("/home", USER)
BUNDLE = Path("/srv/bundle")
"""The bundle's folder on the machine."""
CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAMS = ("libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "qemu-img", "dnsmasq", "vagrant")
PACKAGES = (
    *("libvirt-daemon", "libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "qemu-utils"),
    *("vagrant", "vagrant-libvirt", "dnsmasq-base", "ovmf"),
)
"""Packages for all tests of virtual machines; ovmf has UEFI firmware, which QEMU's package only recommends."""
FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/home")
"""Folders that the machine does not share with this one."""
BOOT = """
disk=$1 bundle=$2
place() { # make a mount point of the same kind
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")"; touch "$2"; fi
}
mount -t overlay -o "lowerdir=/etc,upperdir=$disk/etc,workdir=$disk/work" overlay /etc # a replaced file loses its bind mount
for folder in $FOLDERS; do mount --bind "$disk/own$folder" "$folder"; done
mount -t tmpfs -o mode=755 tmpfs /srv
mkdir /srv/bundle
[ -z "$bundle" ] || mount --bind "$bundle" /srv/bundle
number=0
for path in $KEPT; do # paths in folders that only root may enter
    number=$((number + 1)); place "$path" "$disk/kept/$number"; mount --bind "$path" "$disk/kept/$number"
done
for folder in $CLOSED; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
number=0
for path in $KEPT; do
    number=$((number + 1)); place "$disk/kept/$number" "$path"; mount --bind "$disk/kept/$number" "$path"
done
mount -t proc proc /proc
mount -t sysfs sysfs /sys # shows the interfaces of its own network
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 1777 /run/lock
exec tini -- sleep infinity
"""
LIBVIRTD = f"""
unix_sock_group = "{GROUP}"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
"""
QEMU = f"""
user = "{HYPERVISOR}"
group = "{HYPERVISOR}"
security_driver = "none"
cgroup_controllers = []
namespaces = []
"""
DAEMONS = ("virtlogd", "libvirtd")


@dataclass(frozen=True, slots=True)
class LibvirtMachine:
    """A running machine: the pid of its first process, and the folder of its disk."""

    init: int
    disk: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def state_home(self) -> Path:
        """The user's state home, as seen on the machine."""
        return HOME / ".local/state"

    def path(self, path: Path) -> Path:
        """Return the path, as seen from this machine, of a file on the machine's disk."""
        return self.disk / ("own" if str(path).startswith(FOLDERS) else "") / path.relative_to("/")

    def line(self, user: str, *command: str, **more: str) -> list[str]:
        """Return the command line that runs a command on the machine as a user, in the user's home."""
        home = str(HOME) if user == USER else "/root"
        environment = {"HOME": home, "USER": user, "LOGNAME": user, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        line = ["nsenter", f"--target={self.init}", *("--mount", "--pid", "--net"), "--"]
        line += ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user != "root" else []
        line += [
            "env",
            "-i",
            f"--chdir={home}",
            *(f"{k}={v}" for k, v in {**environment, **self.environment, **more}.items()),
        ]
        return [*line, *command]

    def run(self, user: str, *command: str, code: int | None = 0, seconds: float = 60.0, **more: str) -> Completed:
        """Run a command on the machine as a user; it must exit with this code."""
        completed = execute(self.line(user, *command, **more), seconds)
        message = f"{user}: {shlex.join(command)}: exit code {completed.code}\n{completed.out}\n{completed.err}"
        assert code in {None, completed.code}, message
        return completed

    def labctl(self, *words: str, code: int | None = 0, seconds: float = 60.0) -> Completed:
        """Run labctl as the user."""
        return self.run(USER, str(LABCTL), *words, code=code, seconds=seconds)

    def virsh(self, *words: str, code: int | None = 0, user: str = USER) -> str:
        """Run virsh as a user, and return its output."""
        return self.run(user, "virsh", "-c", "qemu:///system", *words, code=code).out

    def names(self, kind: str) -> list[str]:
        """Return the names of all domains (``list``), networks (``net-list``), pools or volumes (``vol-list``)."""
        if kind == "vol-list":
            pools = self.names("pool-list")
            listed = [line for pool in pools for line in self.virsh("vol-list", pool).splitlines()[2:]]
            return sorted(line.split()[0] for line in listed if line.strip())
        return sorted(self.virsh(kind, "--all", "--name").split())

    def links(self) -> list[str]:
        """Return the machine's interfaces without `lo`."""
        listed = self.run("root", "ip", "-br", "link", "show").out.splitlines()
        return sorted(line.split()[0].partition("@")[0] for line in listed if not line.startswith("lo "))

    def holds(self) -> dict[str, list[str]]:
        """Return everything that a lab could leave behind on the machine."""
        kinds = {kind: self.names(kind) for kind in ("list", "net-list", "pool-list", "vol-list")}
        return {**kinds, "links": self.links()}

    def start_libvirt(self) -> None:
        """Start both daemons, and wait until libvirt answers the user."""
        for daemon in DAEMONS:
            self.run(
                "root",
                "sh",
                "-c",
                f"setsid --fork {daemon} --daemon --pid-file /run/{daemon}.pid >/run/{daemon}.log 2>&1",
            )
        query = partial(self.run, USER, "virsh", "-c", "qemu:///system", "version", code=None)
        eventually(query, lambda completed: completed.code == 0, seconds=30)

    def stop_libvirt(self) -> None:
        """Stop both daemons; virtual machines and networks keep running."""
        for daemon in reversed(DAEMONS):
            self.run("root", "sh", "-c", f"kill $(cat /run/{daemon}.pid)")
            is_there = partial(self.run, "root", "test", "-e", f"/run/{daemon}.pid", code=None)
            eventually(is_there, lambda completed: completed.code != 0, seconds=30)


@contextmanager
def running(name: str, disk: Path, bundle: Path | None = None) -> Iterator[LibvirtMachine]:
    """Run a machine with its disk in `disk` and the bundle at BUNDLE; afterwards only the disk is left."""
    install()
    _make_disk(disk)
    name = f"{name}-{os.getpid()}"  # a name for each run of the tests
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=0")
        with _boot(name, disk, bundle) as init:
            machine = LibvirtMachine(init, disk)
            machine.start_libvirt()
            yield machine
    finally:
        run("ip", "netns", "delete", name)


def install(needed: Sequence[str] = PROGRAMS) -> None:
    """Install the packages for tests of virtual machines, unless these programs and files exist."""
    packages.install(needed, PACKAGES)


def _make_disk(disk: Path) -> None:
    for folder in FOLDERS:
        (disk / "own" / folder[1:]).mkdir(parents=True)
    for name in ("etc", "work"):
        (disk / name).mkdir()
    etc, settings, states = disk / "etc", disk / "own/etc/libvirt", disk / "own/var/lib/libvirt"
    for name in ("libvirtd.conf", "qemu.conf", "virtlogd.conf"):
        (settings / name).write_text({"libvirtd.conf": LIBVIRTD, "qemu.conf": QEMU}.get(name, ""))
    for name in ("images", "boot", "qemu", "dnsmasq", "network"):
        (states / name).mkdir(exist_ok=True)
        (states / name).chmod(0o711)
    shutil.chown(states / "qemu", HYPERVISOR, HYPERVISOR)
    (etc / "passwd").write_text(Path("/etc/passwd").read_text() + f"{USER}:x:{UID}:{UID}::{HOME}:/bin/bash\n")
    members = {f"{GROUP}:": f"{USER}"}
    lines = Path("/etc/group").read_text().splitlines()
    lines = [line + members.get(line.partition(":")[0] + ":", "") for line in lines]
    (etc / "group").write_text("\n".join([*lines, f"{USER}:x:{UID}:"]) + "\n")
    (etc / "hosts").write_text("127.0.0.1\tlocalhost\n")
    os.chown(etc / "hosts", UID, UID)
    home = disk / "own" / HOME.relative_to("/")
    home.mkdir(mode=0o700)
    os.chown(home, UID, UID)


@contextmanager
def _boot(name: str, disk: Path, bundle: Path | None) -> Iterator[int]:
    """Boot the machine; yield the pid of its first process, as seen from this machine."""
    folders = sorted({CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), LABCTL.parents[1]})
    needed = [
        path for folder in folders for path in ([folder] if _may_be_entered(folder) else sorted(folder.iterdir()))
    ]
    closed = {path: folder for path in needed if (folder := _closed(path))}
    environment = {
        "PATH": os.environ["PATH"],
        "FOLDERS": " ".join(FOLDERS),
        "KEPT": " ".join(str(path) for path in closed),
        "CLOSED": " ".join(sorted({str(folder) for folder in closed.values()})),
    }
    line = ["nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    line += ["--propagation=private", "sh", "-eu", "-c", BOOT, "sh", str(disk), str(bundle or "")]
    with (
        (disk / "boot.log").open("wb") as log,
        subprocess.Popen(line, stdout=log, stderr=log, env=environment) as child,
    ):
        try:
            eventually(lambda: child.poll() is not None or _first_process(child.pid), bool, seconds=30)
            assert child.poll() is None, (disk / "boot.log").read_text()
            yield _first_process(child.pid)
        finally:
            child.kill()


def _closed(path: Path) -> Path | None:
    """Return the topmost parent folder that others may not enter, or None."""
    return next((each for each in reversed(path.parents) if not _may_be_entered(each)), None)


def _may_be_entered(folder: Path) -> bool:
    """Return whether users other than its owner and group may enter a folder."""
    return bool(folder.stat().st_mode & 0o001)


def _first_process(parent: int) -> int:
    """Return the pid of the process's child that is the machine's init, or 0 if there is none yet."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if Path(f"/proc/{pid}/comm").read_text() == "tini\n":
            return int(pid)
    return 0
