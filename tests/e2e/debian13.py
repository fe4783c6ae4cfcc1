"""A Debian 13 machine with a Docker Engine and a Vagrant of its own: as much of one as a container of namespaces can be.

It has its own root filesystem, processes, host name, mounts and network; the kernel and its control groups are this
machine's. Its root is entered by pivot_root: an Engine in a plain chroot lets `docker exec` out into the real root.
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

from .footprint import CONTROL_GROUPS, emptied, other_labs_run
from .reallab import Ran, eventually, finished, run
from .uplink import LAB_RANGES

NAME = "e2e-debian13"
"""Of the machine, its network namespace, its control group, and of what its rules say that they are there for."""
LINK = "e2edebian13"
UPLINK = ("100.127.13.1", "100.127.13.2")
"""Both ends of the way out: of the carrier-grade NAT range, beside labctl's own."""
BUNDLE = "/srv/bundle"
"""Where the machine has the bundle."""
PACKAGES = (
    *("docker.io", "docker-cli", "vagrant", "openssh-client", "iproute2", "iptables", "mmdebstrap", "uidmap"),
    *("python3-venv", "sudo", "curl", "ca-certificates", "mount", "procps", "tini"),
)
CACHE = Unix("labctl-tests").user_cache_path
SYSTEM_SECONDS = 600.0
OTHER_SECONDS = 1200.0
"""How long another run of these tests may have its machine, of which there is one at a time."""
PASSED_ON = re.compile(
    r"(PIP|UV)_\w+|SSL_CERT_FILE|\w+_CA_BUNDLE|GOPROXY|GONOSUMDB|(https?|all|no)_proxy", re.IGNORECASE
)
"""Settings without which this machine's registries cannot be reached; a file that one of them names goes with it."""
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
    """Somebody who works on the machine."""

    name: str
    home: Path


ROOT = User("root", Path("/root"))


@dataclass(frozen=True, slots=True)
class Debian13:
    """The machine while it runs: its first process, and the settings that its users have."""

    init: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, user: User, *command: str, code: int | None = 0, seconds: float = 60.0, folder: str = "", **more: str
    ) -> Ran:
        """Run a command as its user would, in the user's home or `folder`; it must end with this exit code."""
        path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        environment = {"HOME": str(user.home), "USER": user.name, "PATH": path, **self.environment, **more}
        line = ["nsenter", f"--target={self.init}", *("--mount", "--uts", "--pid", "--net"), "--"]
        line += ["runuser", "-u", user.name, "--", "env", "-i", f"--chdir={folder or user.home}"]
        line += [f"{name}={value}" for name, value in environment.items()]
        ended = finished([*line, *command], seconds)
        said = f"{user.name}: {shlex.join(command)}: exit code {ended.code}\n{ended.out}\n{ended.err}"
        assert code in {None, ended.code}, said
        return ended

    def add_user(self, name: str, *, sudo: bool) -> User:
        """A user in group docker, whose home is closed to others, and who may use sudo without a password or not at all."""
        user = User(name, Path("/home", name))
        self.run(ROOT, "useradd", "--create-home", "--shell=/bin/bash", "--groups=docker", name)
        self.run(ROOT, "chmod", "0700", str(user.home))
        if sudo:
            rule = self.path(Path("/etc/sudoers.d", name))
            rule.write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
            rule.chmod(0o440)
        return user

    def path(self, path: Path) -> Path:
        """Where a file of the machine is, seen from here."""
        return Path(f"/proc/{self.init}/root") / path.relative_to("/")

    def owned_by_root(self, user: User) -> list[str]:
        """What is root's below a user's home."""
        return self.run(ROOT, "find", str(user.home), "-uid", "0").out.splitlines()


@contextmanager
def running(folder: Path, bundle: Path) -> Iterator[Debian13]:
    """The machine runs meanwhile, its disk in `folder`, the bundle at BUNDLE; nothing of it is left then."""
    with locks.alone(CACHE / "debian13.lock", print, timeout=OTHER_SECONDS):
        sweep()
        try:
            settings = _settings(folder / "upper")
            with _forwarding(), _booted(folder, bundle) as init:
                machine = Debian13(init, settings)
                _start_engine(machine)
                yield machine
        finally:
            sweep()


def sweep() -> None:
    """Nothing of such a machine is on this one, even if the test that made it was killed."""
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
            eventually(partial(emptied, group), bool)


def system() -> Path:
    """The folder of the machine's root filesystem as mmdebstrap made it: once, for this list of packages."""
    kept = CACHE / f"debian13-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]}"
    if not kept.exists():
        partial = kept.with_name(f"{kept.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        packages = f"--include={','.join(PACKAGES)}"
        run(
            "mmdebstrap", "--variant=apt", packages, "--skip=output/dev", "trixie", str(partial), seconds=SYSTEM_SECONDS
        )
        partial.rename(kept)
    return kept


@contextmanager
def _forwarding() -> Iterator[None]:
    """This machine forwards what the other one sends out."""
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    forwarding.write_text("1")
    try:
        yield
    finally:
        if not other_labs_run():
            forwarding.write_text(before)


def _make_network() -> None:
    """The machine's network namespace has a way out, which leads nobody to the addresses of a lab."""
    outer, inner = UPLINK
    for line in (
        f"ip netns add {NAME}",
        # Not by unreachable routes, which an ordinary machine has not.
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
def _booted(folder: Path, bundle: Path) -> Iterator[int]:
    """The machine's first process runs, and its end is everyone's; yields its number as it is here."""
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
    """The child of that process, once it is the machine's init; else 0."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if Path(f"/proc/{pid}/comm").read_text() == "tini\n":
            return int(pid)
    return 0


def _start_engine(machine: Debian13) -> None:
    """The machine's Docker Engine answers; its dockerd has started the containerd."""
    log = Path("/var/log/dockerd.log")
    machine.run(ROOT, "sh", "-c", f"setsid --fork dockerd --cgroup-parent=/{NAME} >{log} 2>&1")
    answers = partial(machine.run, ROOT, "docker", "version", code=None)
    eventually(answers, lambda ended: ended.code == 0, seconds=30)


def _settings(upper: Path) -> dict[str, str]:
    """This machine's settings for registries; the files they name are on the other one as well."""
    settings = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    for value in settings.values():
        if (file := Path(value)).is_absolute() and file.is_file():
            place = upper / file.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return settings
