"""`labctl doctor` on a simulated machine: its own network with a neighbour, and leftovers of dead labs.

The test has its own network namespace, and mounts over /run/netns, /run/labctl and /etc/netns, so that it neither sees
nor harms labs on the real machine.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.config import from_values, saved_lab
from labctl.isolation.isolation import Isolation

from .reallab import LABCTL, eventually

pytestmark = pytest.mark.e2e

OWN = ("/run/netns", "/run/labctl", "/etc/netns")
NEIGHBOUR = "192.168.56.104"
DOCKER = """#!/bin/sh
[ "$1" = version ] && echo '{"Server": {"Version": "20.10.24"}}'
exit 0
"""
TABLE = ("iptables", "--wait", "-t", "nat")


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """A process that holds the namespaces, in which commands run."""

    keeper: subprocess.Popen[bytes]
    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str, code: int = 0) -> str:
        line = ["nsenter", f"--target={self.keeper.pid}", "--net", "--mount", f"--wd={self.folder}", *command]
        completed = subprocess.run(
            line, env=dict(self.environment), capture_output=True, text=True, timeout=60, check=False
        )
        assert completed.returncode == code, (
            f"{' '.join(command)}: {completed.returncode}\n{completed.stdout}\n{completed.stderr}"
        )
        return completed.stdout

    def doctor(self, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """Return each check's result, by its id."""
        report = json.loads(self.run(str(LABCTL), "-o", "json", "doctor", *words, code=code))
        assert report["ok"] == (code == 0)
        return {check["id"]: check for check in report["checks"]}


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedMachine]:
    """Yield a machine without any connection, and with a Docker Engine that answers, so that labs are not isolated."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "LABCTL_"))},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    for path in OWN:
        Path(path).mkdir(parents=True, exist_ok=True)
    mounts = " && ".join(f"mount -t tmpfs tmpfs {path}" for path in OWN)
    # The machine has its own inotify limit: other labs use up part of the real one.
    (tmp_path / "instances").write_text("8192\n")
    mounts += f" && mount --bind {tmp_path}/instances /proc/sys/fs/inotify/max_user_instances"
    script = f"{mounts} && ip link set lo up && touch {tmp_path}/ready && exec sleep 600"
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", script], stdin=subprocess.DEVNULL
    ) as keeper:
        try:
            eventually((tmp_path / "ready").exists, bool, seconds=20)
            yield SimulatedMachine(keeper, tmp_path, environment)
        finally:
            keeper.kill()


@pytest.fixture
def neighbour(simulated: SimulatedMachine) -> Iterator[str]:
    """Add a machine with an address of the lab's pool to the lab's network; yield the address."""
    # A second network namespace, inside the first world's own /run/netns.
    simulated.run("ip", "netns", "add", "neighbour")
    simulated.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", "neighbour")
    simulated.run("ip", "address", "add", "192.168.56.1/24", "dev", "lan0")
    simulated.run("ip", "link", "set", "lan0", "up")
    simulated.run("ip", "-n", "neighbour", "address", "add", f"{NEIGHBOUR}/24", "dev", "eth0")
    simulated.run("ip", "-n", "neighbour", "link", "set", "eth0", "up")
    yield NEIGHBOUR
    simulated.run("ip", "netns", "delete", "neighbour")


def test_an_address_of_the_pool_that_a_neighbour_has_is_reported(simulated: SimulatedMachine, neighbour: str) -> None:
    checks = simulated.doctor(code=8)

    assert checks["pool-answers"]["state"] == "broken"
    assert neighbour in checks["pool-answers"]["seen"]
    assert (checks["network"]["state"], "lan0" in checks["network"]["seen"]) == ("broken", True)


def test_a_pool_without_the_neighbours_address_is_chosen(simulated: SimulatedMachine, neighbour: str) -> None:
    (simulated.folder / "labctl.yaml").write_text(f"pool: auto\nhosts_file: {simulated.folder}/hosts\n")
    (simulated.folder / "hosts").write_text("127.0.0.1 localhost\n")

    checks = simulated.doctor(code=8)

    assert "192.168.56.105-192.168.56.254" in checks["pool"]["seen"], neighbour
    assert checks["pool-answers"]["state"] == "ok"


def test_no_packet_is_sent_if_no_interface_is_in_the_labs_network(simulated: SimulatedMachine) -> None:
    simulated.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far")
    simulated.run("ip", "link", "set", "far", "up")
    simulated.run("ip", "address", "add", "198.51.100.2/24", "dev", "uplink")
    simulated.run("ip", "link", "set", "uplink", "up")
    simulated.run("ip", "route", "add", "default", "via", "198.51.100.1")
    simulated.run("sysctl", "-qw", "net.ipv6.conf.uplink.disable_ipv6=1")
    before = _sent_packets(simulated)

    assert simulated.doctor()["pool-answers"]["state"] == "not relevant"
    assert _sent_packets(simulated) == before


def test_fix_removes_leftovers_of_dead_labs_and_nothing_of_saved_ones(simulated: SimulatedMachine) -> None:
    saved = saved_lab.SavedLab(from_values({"name": "kept"}), isolated=True)
    saved_lab.write(simulated.folder / "state" / "labctl" / "kept", saved)
    for lab in ("ghost", "kept"):
        simulated.run("ip", "netns", "add", f"labctl-{lab}")
        link = Isolation(lab, saved.lab.network, Path()).link
        simulated.run("ip", "link", "add", link, "type", "veth", "peer", "name", "uplink", "netns", f"labctl-{lab}")
        simulated.run(*TABLE, "-A", "POSTROUTING", "-s", "100.126.0.0/30", *_tag(lab))
        simulated.run("mkdir", f"/run/labctl/{lab}", f"/etc/netns/labctl-{lab}")
    simulated.run("ip", "link", "add", "labctl00000000", "type", "veth", "peer", "name", "orphan")

    leftovers = simulated.doctor()["leftovers"]
    assert leftovers["state"] == "warning"
    assert leftovers["seen"].count(" of lab ghost") == 4
    assert "kept" not in leftovers["seen"]

    fixed = simulated.doctor("--fix")["leftovers"]
    assert (fixed["state"], fixed["fixed"]) == ("ok", True)

    links = {link["ifname"] for link in json.loads(simulated.run("ip", "-j", "link", "show"))}
    assert links == {"lo", Isolation("kept", saved.lab.network, Path()).link}
    assert simulated.run("ls", "/run/netns").split() == ["labctl-kept"]
    assert "labctl:kept" in simulated.run(*TABLE, "-S")
    assert "labctl:ghost" not in simulated.run(*TABLE, "-S")
    assert simulated.run("ls", "/run/labctl", "/etc/netns").split() == [
        "/etc/netns:",
        "labctl-kept",
        "/run/labctl:",
        "kept",
    ]


def test_a_hosts_file_is_checked_and_not_changed(simulated: SimulatedMachine) -> None:
    hosts = simulated.folder / "hosts"
    (simulated.folder / "labctl.yaml").write_text(f"hosts_file: {hosts}\n")
    damaged = "10.0.0.9 my-app.local\n# BEGIN labctl demo\n192.168.56.100 my-app.local\n"
    hosts.write_text(damaged)

    checks = simulated.doctor("--fix", code=8)

    assert checks["hosts-file"]["state"] == "ok"
    assert (checks["hosts-block"]["state"], "line 2" in checks["hosts-block"]["seen"]) == ("broken", True)
    shadows = checks["hosts-shadows"]
    # There is no route to 10.0.0.9, so browsers try the next address at once.
    assert (shadows["state"], shadows["cause"]) == ("warning", "hosts-entry-doubled")
    assert ("line 1" in shadows["seen"], "10.0.0.9" in shadows["seen"]) == (True, True)
    assert hosts.read_text() == damaged


def _tag(lab: str) -> tuple[str, ...]:
    return ("-m", "comment", "--comment", f"labctl:{lab}", "-j", "MASQUERADE")


def _sent_packets(simulated: SimulatedMachine) -> int:
    """Return how many packets the interface `uplink` has sent."""
    [link] = json.loads(simulated.run("ip", "-j", "-s", "link", "show", "uplink"))
    return int(link["stats64"]["tx"]["packets"])
