"""A private network namespace with a Docker Engine of its own, for machines that have none to offer.

What a lab does in there cannot reach the machine's network: every range the lab uses is unreachable from the
namespace unless one of the lab's own interfaces has a closer route to it. Outside, two things change: four rules that
bear the lab's name, and net.ipv4.ip_forward. Where that was off, a rule keeps the machine from forwarding for anyone
but its labs; both go back to what they were when the last such lab is gone.
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
from labctl.host.paths import private_folder, real, remove_tree
from labctl.host.process import check, run
from labctl.host.tool_environment import forget_engine
from labctl.host.wait import Pending, until
from labctl.isolation import containers, forwarding, namespaces
from labctl.isolation.daemon import Daemon
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.lab import POD_NETWORK, SERVICE_NETWORK

INSIDE = "LABCTL_INSIDE"
"""Set, to the lab's name, for what runs in the lab's namespace. labctl itself asks the kernel: a variable may be stale."""
OWN_NETWORK = Path("/proc/self/ns/net")
UPLINKS = IPv4Network("100.126.0.0/16")
"""Of the carrier-grade NAT range, which no private network should use: a /30 for each namespace."""
FARTHEST = "4294967295"
"""The metric of the unreachable routes: any other route is closer."""
NAMESPACES = Path("/run/netns")
SETTINGS = Path("/etc/netns")
HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
UPSTREAM_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
RUNTIME = Path("/run/labctl")
OWNER = "state"
"""The file in a lab's runtime folder that names its state folder: users, and XDG_STATE_HOMEs, have labs of their own."""
BLOCK = re.compile(rb"^# BEGIN labctl (\S+)\r?\n.*?^# END labctl \1\r?(?:\n|\Z)", re.MULTILINE | re.DOTALL)
"""The lines of a lab in a hosts file."""
READABLE = 0o644
END_SECONDS = 5.0
"""How long a program in the namespace may take to end in good order."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """The namespace of one lab, its uplink and its Engine. `folder` is the lab's state folder."""

    lab: str
    network: IPv4Network
    folder: Path

    @property
    def namespace(self) -> str:
        """The namespace's name, as `ip netns` has it."""
        return f"labctl-{self.lab}"

    @property
    def tag(self) -> str:
        """The comment of the lab's iptables rules."""
        return f"labctl:{self.lab}"

    @property
    def link(self) -> str:
        """The outer end of the uplink; names of interfaces have 15 letters at most."""
        return f"labctl{zlib.crc32(self.lab.encode()):08x}"

    @property
    def runtime(self) -> Path:
        """Sockets and pid files: gone after a reboot, as the namespace is."""
        return RUNTIME / self.lab

    @property
    def containerd(self) -> Path:
        """The socket of the Engine's containerd."""
        return self.runtime / "containerd.sock"

    @property
    def engine(self) -> str:
        """The Engine's address, as DOCKER_HOST has it."""
        return f"unix://{self.runtime / 'docker.sock'}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process in the namespace needs in its environment."""
        return {INSIDE: self.lab, "DOCKER_HOST": self.engine}

    def exists(self) -> bool:
        """Return whether the namespace exists."""
        return (NAMESPACES / self.namespace).exists()

    def ensure(self) -> bool:
        """Create the namespace and its Engine; True if something was created.

        Raises ProviderError `owned-elsewhere` where they belong to a lab in another state folder.
        """
        self.refuse_another_owner()
        private_folder(RUNTIME)
        private_folder(self.runtime)
        (self.runtime / OWNER).write_bytes(os.fsencode(self.folder))
        changes = [self._ensure_namespace(), self._ensure_forwarding(), self._ensure_engine()]
        return any(changes)

    def is_entered(self) -> bool:
        """Return whether this process runs in the namespace already."""
        try:
            return (NAMESPACES / self.namespace).samefile(OWN_NETWORK)
        except FileNotFoundError:  # no namespace of the lab; or, elsewhere than on Linux, none at all
            return False

    def enter(self) -> None:
        """Move this process, and what it starts, into the namespace, with the lab's own /etc/hosts.

        Raises ProviderError `namespace-closed`.
        """
        try:
            if not self.is_entered():
                if not (SETTINGS / self.namespace / "hosts").exists():
                    self._write_settings()  # else the machine's own file would be the one that is seen and written
                namespaces.enter(NAMESPACES / self.namespace, SETTINGS / self.namespace)
        except OSError as error:
            raise _closed(f"cannot enter {self.namespace}: {error.filename}: {error.strerror}") from error
        forget_engine(os.environ)
        os.environ.update(self.environment)

    def engine_runs(self) -> bool:
        """Return whether both of the Engine's daemons answer."""
        return all(daemon.runs() for daemon in self._daemons())

    def halt(self) -> bool:
        """End the Engine and its containers, whatever state they are in, and keep the namespace; True if something ran."""
        ended = [daemon.stop() for daemon in reversed(self._daemons())]
        return any(
            [*ended, containers.end(self.containerd, containers.made_by(self.folder / lab_folder.ENGINE / "docker"))]
        )

    def remove(self) -> bool:
        """Remove processes, interfaces, rules and folders of the lab's namespace; True if there were any.

        Raises ProviderError `owned-elsewhere` where they belong to a lab in another state folder.
        """
        self.refuse_another_owner()
        was_there = self.exists() or self.runtime.exists()
        self.halt()
        self._end_processes()
        forwarding.delete_rules(self.tag)
        self._remove_namespace()
        for folder in (SETTINGS / self.namespace, self.runtime, self.folder / lab_folder.ENGINE):
            for mounted in namespaces.mounts_below(folder):
                # An Engine that was killed leaves them, and the next one takes them as given.
                check(["umount", "--lazy", mounted])
            remove_tree(folder)
        _restore_forwarding()
        return was_there

    def other_owner(self) -> Path | None:
        """Return the state folder of another lab of the same name that this namespace belongs to, or None.

        Raises ProviderError `namespace-closed` for others than root.
        """
        file = self.runtime / OWNER
        try:
            owner = Path(os.fsdecode(file.read_bytes()))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise _closed(f"cannot read {error.filename}: {error.strerror}") from error
        is_other = real(owner) != real(self.folder) and (owner / lab_folder.RECORD).exists()
        return owner if is_other else None

    def refuse_another_owner(self) -> None:
        """Return if the namespace, if there is one, is this lab's. Raises ProviderError `owned-elsewhere`."""
        if owner := self.other_owner():
            raise ProviderError(
                f"the isolated lab {self.lab} on this machine belongs to {owner}, not to {self.folder}",
                id="owned-elsewhere",
                hint=f"Reach it with `XDG_STATE_HOME={shlex.quote(str(owner.parent.parent))} labctl --name {self.lab} …`, "
                "or give this lab another --name.",
            )

    def _end_processes(self) -> None:
        """End whatever `exec` and `open` have started in the namespace, before its network is removed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            with suppress(NotReadyError):  # then it is told more firmly
                until(lambda: Pending("it runs") if self._pids() else None, what="its end", timeout=END_SECONDS)

    def _pids(self) -> list[int]:
        pids = map(int, run(["ip", "netns", "pids", self.namespace]).out.split())
        return [pid for pid in pids if pid != os.getpid()]

    def _ensure_namespace(self) -> bool:
        # The default route comes last: a namespace that has one is finished.
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
        # Names of other labs would stand for addresses that are not here, and may be this lab's own.
        settings = {"hosts": BLOCK.sub(b"", HOSTS.read_bytes() if HOSTS.exists() else b"")}
        # A resolver on this machine's loopback cannot be reached from the namespace; systemd's real servers can.
        ours = RESOLV_CONF.read_bytes() if RESOLV_CONF.exists() else b""
        if b"nameserver 127." in ours and UPSTREAM_RESOLV_CONF.exists():
            settings["resolv.conf"] = UPSTREAM_RESOLV_CONF.read_bytes()
        for name, content in settings.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(READABLE)  # in the place of a file in /etc, for programs that do not run as root too

    def _uplink(self) -> tuple[IPv4Address, IPv4Address]:
        """Return both ends of the uplink, in the first unused /30 after the one that the lab's name hashes to."""
        used = {address.ip for each in interfaces.parsed(run(interfaces.SHOW).out) for address in each.addresses}
        subnets = list(UPLINKS.subnets(new_prefix=30))
        start = zlib.crc32(self.lab.encode()) % len(subnets)
        for subnet in subnets[start:] + subnets[:start]:
            outer, inner = subnet.hosts()
            if outer not in used:
                return outer, inner
        raise ProviderError(f"every uplink network in {UPLINKS} is taken", id="uplinks-taken", hint="Destroy a lab.")

    def _remove_namespace(self) -> None:
        # The kernel removes the link with the namespace, but only once its last process has ended.
        if (Path("/sys/class/net") / self.link).exists():
            check(["ip", "link", "delete", self.link])
        if self.exists():
            check(["ip", "netns", "delete", self.namespace])

    def _ensure_forwarding(self) -> bool:
        [uplink] = interfaces.parsed(run(["ip", "-n", self.namespace, "-j", "address", "show", "uplink"]).out)
        return forwarding.ensure(self.tag, self.link, str(uplink.addresses[0]))

    def _ensure_engine(self) -> bool:
        private_folder(self.folder / lab_folder.ENGINE)
        # These take the place of the files in /etc, which are about the machine's own daemons.
        # live-restore: an Engine that died and is started again finds its nodes running.
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


def _closed(what: str) -> ProviderError:
    return ProviderError(what, id="namespace-closed", hint="An isolated lab needs root.")


def _restore_forwarding() -> None:
    if not any(NAMESPACES.glob("labctl-*")):
        forwarding.restore()
