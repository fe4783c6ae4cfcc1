"""A private network namespace with its own Docker Engine, for machines without a usable Engine.

Packets for the lab's ranges never reach the machine's network: every range is unreachable in the namespace, unless one
of the lab's own interfaces has a better route to it. Outside, two things change: four firewall rules tagged with the
lab's name, and net.ipv4.ip_forward. If that was off, one more rule keeps the machine from forwarding for anyone but its
labs; both are restored when the last isolated lab is removed.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import zlib
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl.host import interfaces, lab_folder
from labctl.host.paths import READABLE, private_folder, real, remove_tree
from labctl.host.process import check, run
from labctl.host.tool_environment import forget_engine
from labctl.host.wait import Pending, until
from labctl.isolation import containers, forwarding, namespaces
from labctl.isolation.daemon import Daemon
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.lab import POD_NETWORK, SERVICE_NETWORK

INSIDE = "LABCTL_INSIDE"
"""The variable with the lab's name, for programs in its namespace. labctl asks the kernel: a variable may be stale."""
OWN_NETWORK = Path("/proc/self/ns/net")
UPLINKS = IPv4Network("100.126.0.0/16")
"""The range of uplinks, a /30 for each namespace: carrier-grade NAT addresses, which no private network should use."""
FARTHEST = "4294967295"
"""The metric of the unreachable routes: any other route takes precedence."""
NAMESPACES = Path("/run/netns")
SETTINGS = Path("/etc/netns")
HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
UPSTREAM_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
RUNTIME = Path("/run/labctl")
OWNER = "state"
"""The file in a lab's runtime folder that names its state folder: each user and XDG_STATE_HOME has its own labs."""
BLOCK = re.compile(rb"^# BEGIN labctl (\S+)\r?\n.*?^# END labctl \1\r?(?:\n|\Z)", re.MULTILINE | re.DOTALL)
"""A lab's block in a hosts file."""
END_SECONDS = 5.0
"""How long a program in the namespace may take to exit after a signal."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """The namespace of one lab, its uplink and its Engine. `folder` is the lab's state folder."""

    lab: str
    network: IPv4Network
    folder: Path

    @property
    def namespace(self) -> str:
        """The namespace's name in `ip netns`."""
        return f"labctl-{self.lab}"

    @property
    def tag(self) -> str:
        """The comment of the lab's iptables rules."""
        return f"labctl:{self.lab}"

    @property
    def link(self) -> str:
        """The outer end of the uplink; names of interfaces have at most 15 characters."""
        return f"labctl{zlib.crc32(self.lab.encode()):08x}"

    @property
    def runtime(self) -> Path:
        """The folder of sockets and pid files. Like the namespace, it does not survive a reboot."""
        return RUNTIME / self.lab

    @property
    def containerd(self) -> Path:
        """The socket of the Engine's containerd."""
        return self.runtime / "containerd.sock"

    @property
    def engine(self) -> str:
        """The Engine's address, in the form of DOCKER_HOST."""
        return f"unix://{self.runtime / 'docker.sock'}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that a process in the namespace needs."""
        return {INSIDE: self.lab, "DOCKER_HOST": self.engine}

    def exists(self) -> bool:
        """Return whether the namespace exists."""
        return (NAMESPACES / self.namespace).exists()

    def ensure(self) -> bool:
        """Create the namespace and its Engine; return whether anything was created or started.

        Raises ProviderError `owned-elsewhere` if they belong to a lab in another state folder.
        """
        self.refuse_another_owner()
        private_folder(RUNTIME)
        private_folder(self.runtime)
        (self.runtime / OWNER).write_bytes(os.fsencode(self.folder))
        changes = [self._ensure_namespace(), self._ensure_forwarding(), self._ensure_engine()]
        return any(changes)

    def is_entered(self) -> bool:
        """Return whether this process already runs in the namespace."""
        try:
            return (NAMESPACES / self.namespace).samefile(OWN_NETWORK)
        except FileNotFoundError:  # the lab has no namespace, or the system is not Linux
            return False

    def enter(self) -> None:
        """Move this process, and the programs it will start, into the namespace, with the lab's own /etc/hosts.

        Raises ProviderError `namespace-closed`.
        """
        try:
            if not self.is_entered():
                if not (SETTINGS / self.namespace / "hosts").exists():
                    self._write_settings()  # without it, this process would read and write the machine's own file
                namespaces.enter(NAMESPACES / self.namespace, SETTINGS / self.namespace)
        except OSError as error:
            raise _creation_error(f"cannot enter {self.namespace}: {error.filename}: {error.strerror}") from error
        forget_engine(os.environ)
        os.environ.update(self.environment)

    def engine_runs(self) -> bool:
        """Return whether both of the Engine's daemons answer."""
        return all(daemon.runs() for daemon in self._daemons())

    def halt(self) -> bool:
        """Stop the Engine and kill its containers, but keep the namespace; return whether anything ran."""
        ended = [daemon.stop() for daemon in reversed(self._daemons())]
        return any(
            [
                *ended,
                containers.kill_containers(
                    self.containerd, containers.containers_of(self.folder / lab_folder.ENGINE / "docker")
                ),
            ]
        )

    def remove(self) -> bool:
        """Remove the namespace with its processes, interfaces, rules and folders; return whether it existed.

        Raises ProviderError `owned-elsewhere` if it belongs to a lab in another state folder.
        """
        self.refuse_another_owner()
        was_there = self.exists() or self.runtime.exists()
        self.halt()
        self._end_processes()
        forwarding.delete_rules(self.tag)
        self._remove_namespace()
        for folder in (SETTINGS / self.namespace, self.runtime, self.folder / lab_folder.ENGINE):
            for mounted in namespaces.mounts_below(folder):
                # A killed Engine leaves its mounts, and the next one would rely on them.
                check(["umount", "--lazy", mounted])
            remove_tree(folder)
        _restore_forwarding()
        return was_there

    def other_owner(self) -> Path | None:
        """Return the state folder of another lab of the same name that owns this namespace, or None.

        Raises ProviderError `namespace-closed` if the user is not root.
        """
        file = self.runtime / OWNER
        try:
            owner = Path(os.fsdecode(file.read_bytes()))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise _creation_error(f"cannot read {error.filename}: {error.strerror}") from error
        is_other = real(owner) != real(self.folder) and (owner / lab_folder.RECORD).exists()
        return owner if is_other else None

    def refuse_another_owner(self) -> None:
        """Raise ProviderError `owned-elsewhere` if another lab of the same name owns the namespace."""
        if owner := self.other_owner():
            raise ProviderError(
                f"the isolated lab {self.lab} on this machine belongs to {owner}, not to {self.folder}",
                id="owned-elsewhere",
                hint=f"Reach it with `XDG_STATE_HOME={shlex.quote(str(owner.parent.parent))} labctl --name {self.lab} …`, "
                "or give this lab another --name.",
            )

    def _end_processes(self) -> None:
        """End the programs that `exec` and `open` started in the namespace, before its network is removed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            with suppress(NotReadyError):  # SIGKILL follows
                until(
                    lambda: Pending("it runs") if self._pids() else None,
                    what="the end of its processes",
                    timeout=END_SECONDS,
                )

    def _pids(self) -> list[int]:
        pids = map(int, run(["ip", "netns", "pids", self.namespace]).out.split())
        return [pid for pid in pids if pid != os.getpid()]

    def _ensure_namespace(self) -> bool:
        # The default route comes last: a namespace that has one is complete.
        if self.exists() and run(["ip", "-n", self.namespace, "route", "show", "default"]).out:
            return False
        self._remove_namespace()
        self._write_settings()
        outer, inner = self._uplink()
        for line in (
            f"ip netns add {self.namespace}",
            f"ip link add {self.link} type veth peer name uplink netns {self.namespace}",
            f"ip address add {outer}/30 dev {self.link}",
            f"ip link set {self.link} up",
            f"ip -n {self.namespace} link set lo up",
            *(
                f"ip -n {self.namespace} route add unreachable {network} metric {FARTHEST}"
                for network in (self.network, POD_NETWORK, SERVICE_NETWORK)
            ),
            f"ip -n {self.namespace} address add {inner}/30 dev uplink",
            f"ip -n {self.namespace} link set uplink up",
            f"ip -n {self.namespace} route add default via {outer}",
        ):
            check(line.split(), hint="An isolated lab needs root and the kernel's network namespaces.")
        return True

    def _write_settings(self) -> None:
        folder = SETTINGS / self.namespace
        folder.mkdir(parents=True, exist_ok=True)
        # Other labs' names would resolve to addresses that do not exist in here, and may be names of this lab as well.
        settings = {"hosts": BLOCK.sub(b"", HOSTS.read_bytes() if HOSTS.exists() else b"")}
        # A resolver on this machine's loopback cannot be reached from the namespace; systemd's real servers can.
        ours = RESOLV_CONF.read_bytes() if RESOLV_CONF.exists() else b""
        if b"nameserver 127." in ours and UPSTREAM_RESOLV_CONF.exists():
            settings["resolv.conf"] = UPSTREAM_RESOLV_CONF.read_bytes()
        for name, content in settings.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(READABLE)  # it replaces a file in /etc, also for programs of other users

    def _uplink(self) -> tuple[IPv4Address, IPv4Address]:
        """Return both ends of the uplink, in the first unused /30 after the one that the lab's name hashes to."""
        used = {address.ip for each in interfaces.parse(run(interfaces.SHOW).out) for address in each.addresses}
        subnets = list(UPLINKS.subnets(new_prefix=30))
        start = zlib.crc32(self.lab.encode()) % len(subnets)
        for subnet in subnets[start:] + subnets[:start]:
            outer, inner = subnet.hosts()
            if outer not in used:
                return outer, inner
        raise ProviderError(f"every uplink network in {UPLINKS} is in use", id="uplinks-taken", hint="Destroy a lab.")

    def _remove_namespace(self) -> None:
        # The kernel removes the link with the namespace, but only once its last process has exited.
        if (Path("/sys/class/net") / self.link).exists():
            check(["ip", "link", "delete", self.link])
        if self.exists():
            check(["ip", "netns", "delete", self.namespace])

    def _ensure_forwarding(self) -> bool:
        [uplink] = interfaces.parse(run(["ip", "-n", self.namespace, "-j", "address", "show", "uplink"]).out)
        return forwarding.ensure(self.tag, self.link, str(uplink.addresses[0]))

    def _ensure_engine(self) -> bool:
        private_folder(self.folder / lab_folder.ENGINE)
        # These replace the files in /etc, which configure the machine's own daemons.
        # live-restore: nodes keep running if the Engine dies, and belong to it again after its restart.
        (self.runtime / "daemon.json").write_text('{"live-restore": true}')
        (self.runtime / "containerd.toml").write_text('disabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        started = [daemon.start() for daemon in self._daemons()]
        return any(started)

    def _daemons(self) -> tuple[Daemon, ...]:
        """Return both daemons, in the order of their start: dockerd alone would use the machine's containerd."""
        containerd, engine = self.containerd, self.folder / lab_folder.ENGINE
        return (
            Daemon(
                namespace=NAMESPACES / self.namespace,
                line=(
                    *("containerd", "--config", f"{self.runtime}/containerd.toml", "--address", str(containerd)),
                    *("--root", f"{engine}/containerd", "--state", f"{self.runtime}/containerd"),
                    *("--log-level", "warn"),
                ),
                socket=containerd,
                pidfile=self.runtime / "containerd.pid",
                log=self.folder / lab_folder.CONTAINERD_LOG,
            ),
            Daemon(
                namespace=NAMESPACES / self.namespace,
                line=(
                    *("dockerd", "--host", self.engine, "--containerd", str(containerd)),
                    *("--data-root", f"{engine}/docker", "--exec-root", f"{self.runtime}/docker"),
                    *("--config-file", f"{self.runtime}/daemon.json", "--pidfile", f"{self.runtime}/docker.pid"),
                    *("--log-level", "warn"),
                ),
                socket=self.runtime / "docker.sock",
                pidfile=self.runtime / "docker.pid",
                log=self.folder / lab_folder.ENGINE_LOG,
            ),
        )


def _creation_error(what: str) -> ProviderError:
    return ProviderError(what, id="namespace-closed", hint="An isolated lab needs root.")


def _restore_forwarding() -> None:
    if not any(NAMESPACES.glob("labctl-*")):
        forwarding.restore()
