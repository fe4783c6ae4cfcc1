"""A Debian 13 machine with its own Docker Engine and Vagrant, made of namespaces.

It has its own root filesystem, processes, host name, mounts and network, and shares this machine's kernel and control
groups. Its root is entered by pivot_root: from an Engine in a plain chroot, `docker exec` escapes to the real root.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from platformdirs.unix import Unix

from labctl.host import locks

from .footprint import CONTROL_GROUPS, other_labs_run, remove_group
from .reallab import Completed, eventually, execute, run
from .uplink import LAB_RANGES

NAME = "e2e-debian13"
"""The name of the machine, its network namespace and its control group, and the comment of its firewall rules."""
LINK = "e2edebian13"
UPLINK = ("100.127.13.1", "100.127.13.2")
"""Both ends of the uplink, in the carrier-grade NAT range next to labctl's own."""
BUNDLE = "/srv/bundle"
"""The bundle's folder in the machine."""
PACKAGES = (
    *("docker.io", "docker-cli", "vagrant", "openssh-client", "iproute2", "iptables", "mmdebstrap", "uidmap"),
    *("python3-venv", "sudo", "curl", "ca-certificates", "mount", "procps", "tini"),
)
CACHE = Unix("labctl-tests").user_cache_path
SYSTEM_SECONDS = 600.0
OTHER_SECONDS = 1200.0
"""How long to wait for the machine of another run of these tests: only one can exist at a time."""
FORWARDED = re.compile(
    r"(PIP|UV)_\w+|SSL_CERT_FILE|\w+_CA_BUNDLE|GOPROXY|GONOSUMDB|(https?|all|no)_proxy", re.IGNORECASE
)
"""Settings that this machine needs to reach registries; files that they name are copied as well."""
BOOT = """
system=$1 disk=$2 bundle=$3
cd "$disk/root"
mount -t overlay -o "lowerdir=$system,upperdir=$disk/upper,workdir=$disk/work" overlay .
cd "$disk/root"
mkdir -p srv/bundle var/lib/docker
mount --bind "$disk/docker" var/lib/docker # an Engine's data cannot be on an overlay
mount --bind -o ro "$bundle" srv/bundle
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir run/lock
hostname debian13
pivot_root . mnt
umount -l /mnt
exec tini -- sleep infinity
"""


@dataclass(frozen=True, slots=True)
class User:
    """A user of the machine."""

    name: str
    home: Path


ROOT = User("root", Path("/root"))


@dataclass(frozen=True, slots=True)
class Debian13:
    """The running machine: its first process, and its users' environment."""

    init: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, user: User, *command: str, code: int | None = 0, seconds: float = 60.0, folder: str = "", **more: str
    ) -> Completed:
        """Run a command as the user, in the user's home or `folder`, and require this exit code."""
        path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        environment = {"HOME": str(user.home), "USER": user.name, "PATH": path, **self.environment, **more}
        line = ["nsenter", f"--target={self.init}", *("--mount", "--uts", "--pid", "--net"), "--"]
        line += ["runuser", "-u", user.name, "--", "env", "-i", f"--chdir={folder or user.home}"]
        line += [f"{name}={value}" for name, value in environment.items()]
        completed = execute([*line, *command], seconds)
        message = f"{user.name}: {shlex.join(command)}: exit code {completed.code}\n{completed.out}\n{completed.err}"
        assert code in {None, completed.code}, message
        return completed

    def add_user(self, name: str, *, sudo: bool) -> User:
        """Add a user in group docker with a private home, and with sudo without a password or no sudo."""
        user = User(name, Path("/home", name))
        self.run(ROOT, "useradd", "--create-home", "--shell=/bin/bash", "--groups=docker", name)
        self.run(ROOT, "chmod", "0700", str(user.home))
        if sudo:
            rule = self.path(Path("/etc/sudoers.d", name))
            rule.write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
            rule.chmod(0o440)
        return user

    def path(self, path: Path) -> Path:
        """Return the path of a file of the machine on this one."""
        return Path(f"/proc/{self.init}/root") / path.relative_to("/")

    def owned_by_root(self, user: User) -> list[str]:
        """Return what root owns below a user's home."""
        return self.run(ROOT, "find", str(user.home), "-uid", "0").out.splitlines()


@contextmanager
def running(folder: Path, bundle: Path) -> Iterator[Debian13]:
    """Run the machine during the block, its disk in `folder` and the bundle at BUNDLE; remove it afterwards."""
    with locks.exclusive(CACHE / "debian13.lock", print, timeout=OTHER_SECONDS):
        sweep()
        try:
            settings = _settings(folder / "upper")
            with _forwarding(), _boot(folder, bundle) as init:
                machine = Debian13(init, settings)
                _start_engine(machine)
                yield machine
        finally:
            sweep()


def sweep() -> None:
    """Remove everything of such a machine from this one, even if the test that created it was killed."""
    namespace = Path("/run/netns", NAME)
    if namespace.exists():
        for pid in run("ip", "netns", "pids", NAME).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        eventually(lambda: run("ip", "netns", "pids", NAME), lambda pids: not pids)
    if Path("/sys/class/net", LINK).exists():
        run("ip", "link", "delete", LINK)
    if namespace.exists():
        run("ip", "netns", "delete", NAME)
    for table in ("nat", "filter"):
        for rule in run("iptables", "--wait", "-t", table, "-S").splitlines():
            if NAME in (words := shlex.split(rule)):
                run("iptables", "--wait", "-t", table, "-D", *words[1:])
    for hierarchy in (CONTROL_GROUPS, *CONTROL_GROUPS.iterdir()):
        if (group := hierarchy / NAME).is_dir():
            eventually(partial(remove_group, group), bool)


def system() -> Path:
    """Return the machine's root filesystem, which mmdebstrap builds once for this list of packages."""
    root = CACHE / f"debian13-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]}"
    if not root.exists():
        partial = root.with_name(f"{root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        packages = f"--include={','.join(PACKAGES)}"
        run(
            "mmdebstrap", "--variant=apt", packages, "--skip=output/dev", "trixie", str(partial), seconds=SYSTEM_SECONDS
        )
        partial.rename(root)
    return root


@contextmanager
def _forwarding() -> Iterator[None]:
    """Enable IP forwarding on this machine during the block."""
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    forwarding.write_text("1")
    try:
        yield
    finally:
        if not other_labs_run():
            forwarding.write_text(before)


def _make_network() -> None:
    """Create the machine's network namespace with an uplink, through which no lab's address can be reached."""
    outer, inner = UPLINK
    for line in (
        f"ip netns add {NAME}",
        # Not by unreachable routes, which an ordinary machine does not have.
        *(f"ip -n {NAME} rule add to {net} lookup main suppress_prefixlength 0 pref 100" for net in LAB_RANGES),
        *(f"ip -n {NAME} rule add to {net} unreachable pref 101" for net in LAB_RANGES),
        f"ip link add {LINK} type veth peer name eth0 netns {NAME}",
        f"ip address add {outer}/30 dev {LINK}",
        f"ip link set {LINK} up",
        f"ip -n {NAME} link set lo up",
        f"ip -n {NAME} address add {inner}/30 dev eth0",
        f"ip -n {NAME} link set eth0 up",
        f"ip -n {NAME} route add default via {outer}",
        f"iptables --wait -t nat -I POSTROUTING -s {inner}/32 -m comment --comment {NAME} -j MASQUERADE",
        *(f"iptables --wait -I FORWARD {way} {LINK} -m comment --comment {NAME} -j ACCEPT" for way in ("-i", "-o")),
    ):
        run(*line.split())


@contextmanager
def _boot(folder: Path, bundle: Path) -> Iterator[int]:
    """Run the machine's first process, with which all others end; yield its pid on this machine."""
    _make_network()
    for name in ("root", "upper/etc", "work", "docker"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile("/etc/resolv.conf", folder / "upper/etc/resolv.conf")
    (folder / "upper/etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\tdebian13\n")
    line = ["nsenter", f"--net=/run/netns/{NAME}", "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
    line += ["--propagation=private", "sh", "-eu", "-c", BOOT, "sh", str(system()), str(folder), str(bundle)]
    with (folder / "boot.log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log) as child:
        try:
            eventually(lambda: child.poll() is not None or _first_process(child.pid), bool, seconds=30)
            assert child.poll() is None, (folder / "boot.log").read_text()
            yield _first_process(child.pid)
        finally:
            child.kill()


def _first_process(parent: int) -> int:
    """Return the child of that process once it is the machine's init, else 0."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if Path(f"/proc/{pid}/comm").read_text() == "tini\n":
            return int(pid)
    return 0


def _start_engine(machine: Debian13) -> None:
    """Start the machine's dockerd, which starts containerd, and wait until it answers."""
    log = Path("/var/log/dockerd.log")
    machine.run(ROOT, "sh", "-c", f"setsid --fork dockerd --cgroup-parent=/{NAME} >{log} 2>&1")
    query = partial(machine.run, ROOT, "docker", "version", code=None)
    eventually(query, lambda completed: completed.code == 0, seconds=30)


def _settings(upper: Path) -> dict[str, str]:
    """Return this machine's settings for registries, and copy the files that they name to the other one."""
    settings = {name: value for name, value in os.environ.items() if FORWARDED.fullmatch(name)}
    for value in settings.values():
        if (file := Path(value)).is_absolute() and file.is_file():
            place = upper / file.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return settings
