"""The uplink and firewall rules of isolated labs, in namespaces that stand for a machine, its neighbour, and a network
behind the machine that the neighbour must not reach."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from tracing import mount, start, unshare_mounts, unshare_network, wait_for_exit

from labctl.host.process import check, run
from labctl.isolation import forwarding, isolation
from labctl.isolation.isolation import Isolation

pytestmark = pytest.mark.root

LAN, BEHIND = "192.0.2", "198.51.100"
"""Documentation networks: the neighbour is `.2` of one, a server behind the machine is `.2` of the other."""
PORT = 8000
LABS = ("contract-demo", "contract-other")
"""Names that no lab on this machine has: mounts of a real lab would be visible in the test's mount namespace."""
WAIT_SECONDS = 1.0
CONNECT = f"import socket, sys; socket.create_connection((sys.argv[1], {PORT}), {WAIT_SECONDS})"
SERVE = f"""
import socket
server = socket.create_server(("", {PORT}))
print("ready", flush=True)
while True:
    server.accept()
"""


def test_a_lab_can_connect_out_but_not_be_reached_or_used_as_a_router(tmp_path: Path) -> None:
    def in_child() -> None:
        _enter_machine(tmp_path)
        demo, other = (Isolation(name, IPv4Network("192.168.56.0/24"), tmp_path / name) for name in LABS)
        for lab in (demo, other):
            assert lab._ensure_namespace()
            assert lab._ensure_forwarding()
            assert not lab._ensure_forwarding()
        inside = {lab: _address(lab) for lab in (demo, other)}

        with _serving("lan"), _serving("behind"), _serving(demo.namespace), _serving(other.namespace):
            assert _reaches(demo.namespace, f"{LAN}.2")
            assert _reaches(other.namespace, f"{BEHIND}.2")
            assert not _reaches("lan", inside[demo])
            assert not _reaches("lan", f"{BEHIND}.2")
            assert not _reaches(demo.namespace, inside[other])
            assert not _reaches(other.namespace, inside[demo])

        rules = run(["iptables-save"]).out
        for lab in (demo, other):
            assert lab.remove()
        assert "labctl" in rules
        assert "labctl" not in run(["iptables-save"]).out
        assert forwarding.IP_FORWARD.read_text() == "0\n"

    assert wait_for_exit(start(in_child)) == 0


def test_a_machine_that_already_forwards_keeps_forwarding(tmp_path: Path) -> None:
    def in_child() -> None:
        _enter_machine(tmp_path)
        forwarding.IP_FORWARD.write_text("1")
        demo = Isolation(LABS[0], IPv4Network("192.168.56.0/24"), tmp_path / "demo")
        demo._ensure_namespace()
        demo._ensure_forwarding()

        with _serving("behind"), _serving(demo.namespace):
            assert _reaches("lan", f"{BEHIND}.2")
            assert not _reaches("lan", _address(demo))

        demo.remove()
        assert forwarding.IP_FORWARD.read_text() == "1\n"
        assert "labctl" not in run(["iptables-save"]).out

    assert wait_for_exit(start(in_child)) == 0


def test_removing_a_lab_kills_even_processes_that_ignore_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "END_SECONDS", 0.5)

    def in_child() -> None:
        _enter_machine(tmp_path)
        demo = Isolation(LABS[0], IPv4Network("192.168.56.0/24"), tmp_path / "demo")
        demo._ensure_namespace()
        inside = ["ip", "netns", "exec", demo.namespace]
        stubborn = (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
        )
        with (
            subprocess.Popen([*inside, "sleep", "60"]) as willing,
            subprocess.Popen([*inside, sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as unwilling,
        ):
            assert unwilling.stdout is not None
            assert unwilling.stdout.readline() == b"ready\n"

            assert demo.remove()

            assert (willing.wait(1), unwilling.wait(1)) == (-signal.SIGTERM, -signal.SIGKILL)

    assert wait_for_exit(start(in_child)) == 0


def _enter_machine(folder: Path) -> None:
    """Move this process to a machine of its own, with a neighbour, and a network behind it."""
    unshare_mounts()
    unshare_network()
    mount("none", Path("/run"), "tmpfs")
    mount("none", Path("/sys"), "sysfs")
    isolation.SETTINGS = folder / "netns"
    for line in (
        "ip link set lo up",
        "ip netns add lan",
        "ip netns add behind",
        *(
            command
            for name, network in (("lan", LAN), ("behind", BEHIND))
            for command in (
                f"ip link add {name}0 type veth peer name eth0 netns {name}",
                f"ip address add {network}.1/24 dev {name}0",
                f"ip link set {name}0 up",
                f"ip -n {name} address add {network}.2/24 dev eth0",
                f"ip -n {name} link set eth0 up",
                f"ip -n {name} route add default via {network}.1",
            )
        ),
    ):
        check(line.split())
    forwarding.IP_FORWARD.write_text("0")  # a new namespace inherits the machine's value


@contextmanager
def _serving(namespace: str) -> Iterator[None]:
    line = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", SERVE]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            server.kill()


def _reaches(namespace: str, address: str) -> bool:
    return run(["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", CONNECT, address]).code == 0


def _address(lab: Isolation) -> str:
    return check(["ip", "-n", lab.namespace, "-4", "-o", "address", "show", "uplink"]).split()[3].partition("/")[0]
