"""The state of the VirtualBox double on disk: machines, host-only interfaces and DHCP servers, as in VirtualBox 7.0."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

HOME = "VBOX_USER_HOME"
"""The variable that names the folder of VirtualBox's own settings, too."""
NAMESPACE = UUID("786f6276-656e-4074-8000-0a0027000000")


class VBoxError(Exception):
    """An error that VBoxManage prints and exits with: a COM code if the API refuses, no code for wrong arguments."""

    def __init__(self, text: str, code: str = "", component: str = "", callee: str = "") -> None:
        super().__init__(text)
        self.text, self.code, self.component, self.callee = text, code, component, callee


@dataclass
class Nic:
    """A network adapter. A machine always has eight; an import attaches those of the OVF."""

    mac: str
    attached: str = "none"
    kind: str = "82540EM"
    connected: bool = True
    hostonly: str = ""
    promiscuous: str = "deny"
    forwarded: dict[str, str] = field(default_factory=dict)
    """NAT rules by name, each in the form of `--natpf`."""


@dataclass
class Medium:
    """A disk or CD attached to a port of a controller."""

    path: str
    uuid: str
    kind: str


@dataclass
class Machine:
    """A registered machine."""

    uuid: str
    name: str
    folder: str
    memory: int
    cpus: int
    os_type: str
    nics: dict[str, Nic] = field(default_factory=dict)
    controllers: dict[str, dict[str, Medium]] = field(default_factory=dict)
    """Media by controller name, then by port and device."""
    uarts: dict[str, list[str]] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    firmware: str = "BIOS"
    state: str = "poweroff"
    pid: int = 0
    """QEMU's pid; 0 if machines are not booted."""

    @property
    def base(self) -> Path:
        return Path(self.folder)

    @property
    def is_on(self) -> bool:
        """Whether it has a process, which may be paused."""
        return self.is_running or self.state in {"paused", "gurumeditation"}

    @property
    def is_running(self) -> bool:
        """Whether it runs; a booted machine stops when its QEMU exits."""
        return self.state == "running" and (self.pid == 0 or _is_alive(self.pid))


@dataclass
class HostOnly:
    """A host-only interface of this machine."""

    name: str
    address: str
    netmask: str

    @property
    def index(self) -> int:
        return int(self.name.removeprefix("vboxnet"))


@dataclass
class Dhcp:
    """A DHCP server, which VirtualBox starts with the first machine in its network."""

    network: str
    address: str
    lower: str
    upper: str
    netmask: str
    enabled: bool


@dataclass
class Home:
    """The whole state, as `VBoxSVC` has it."""

    folder: Path
    machines: list[Machine] = field(default_factory=list)
    interfaces: list[HostOnly] = field(default_factory=list)
    servers: list[Dhcp] = field(default_factory=list)
    count: int = 0
    """The number of generated ids and MAC addresses."""

    def new_id(self) -> str:
        """Return a UUID that is the same at the same point of each run."""
        self.count += 1
        return str(uuid5(NAMESPACE, str(self.count)))

    def new_mac(self) -> str:
        self.count += 1
        return f"080027{self.count:06X}"

    def machine(self, name: str) -> Machine:
        for each in self.machines:
            if name in {each.uuid, each.name}:
                return each
        is_id = len(name) == len(str(NAMESPACE)) and name.count("-") == str(NAMESPACE).count("-")
        what = f"with UUID {{{name}}}" if is_id else f"named '{name}'"
        text = f"Could not find a registered machine {what}"
        raise VBoxError(text, "VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)", "VirtualBoxWrap", "nsISupports")


def folder() -> Path:
    return Path(os.environ[HOME])


@contextmanager
def opened() -> Iterator[Home]:
    """Lock and yield the state, and save it unless the command fails."""
    path = folder() / "double.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = _read(path)
        yield home
        path.with_suffix(".new").write_text(json.dumps(_plain(home), indent=1))
        path.with_suffix(".new").replace(path)


def _plain(home: Home) -> dict[str, object]:
    plain = asdict(home)
    del plain["folder"]
    return plain


def _read(path: Path) -> Home:
    if not path.exists():  # VirtualBox's initial state: the DHCP server exists before its interface
        default = Dhcp(
            "HostInterfaceNetworking-vboxnet0",
            *("192.168.56.100", "192.168.56.101", "192.168.56.254", "255.255.255.0"),
            enabled=True,
        )
        return Home(path.parent, servers=[default])
    saved: dict[str, Any] = json.loads(path.read_text())
    return Home(
        path.parent,
        [_machine(each) for each in saved["machines"]],
        [HostOnly(**each) for each in saved["interfaces"]],
        [Dhcp(**each) for each in saved["servers"]],
        saved["count"],
    )


def _machine(saved: dict[str, Any]) -> Machine:
    nics = {slot: Nic(**each) for slot, each in saved["nics"].items()}
    controllers = {
        name: {port: Medium(**each) for port, each in media.items()} for name, media in saved["controllers"].items()
    }
    machine = Machine(**{**saved, "nics": nics, "controllers": controllers})
    if machine.state == "running" and not machine.is_running:
        machine.state = "poweroff"  # the guest shut itself down
    return machine


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
