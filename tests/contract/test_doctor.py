"""`doctor` and preflight in real processes, with and without the tools that they run."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from labctl.doctor import CHECKS, Machine
from labctl.host import interfaces
from labctl.host.arp import Route

LABCTL = Path(sys.executable).with_name("labctl")
RECORDED = Path(__file__).parents[1] / "unit" / "doctor" / "recorded"
VBOXMANAGE = """case "$*" in
--version) cat {recorded}/vbox-version.txt ;;
"list dhcpservers") cat {recorded}/vbox-dhcpservers.txt ;;
"list hostonlyifs") cat {recorded}/vbox-hostonlyifs.txt ;;
esac"""
DOCKER = """case "$1" in
--version) echo Docker version 28.2.2, build e6534b4 ;;
version) echo '{{"Server": {{"Version": "28.2.2"}}}}' ;;
network) [ "$2" = ls ] && echo 5e1b || cat {recorded}/docker-networks.json ;;
esac"""


class ToolMachine:
    """A machine whose PATH has only the programs that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()

    def put(self, program: str, script: str) -> None:
        path = self.programs / program
        path.write_text("#!/bin/sh\nPATH=/usr/bin:/bin\n" + script.format(recorded=RECORDED) + "\n")
        path.chmod(0o755)

    def labctl(self, *words: str) -> tuple[int, Any]:
        """Return the exit code and the JSON document."""
        environment = {
            "PATH": str(self.programs),
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        line = [sys.executable, str(LABCTL), "-o", "json", *words]
        finished = subprocess.run(line, env=environment, cwd=self.folder, capture_output=True, timeout=60, check=False)
        assert b"Traceback" not in finished.stderr, finished.stderr.decode()
        return finished.returncode, json.loads(finished.stdout.splitlines()[-1] if "up" in words else finished.stdout)


@pytest.fixture
def machine(tmp_path: Path) -> ToolMachine:
    """A machine without programs, with a hosts file of its own."""
    tool_machine = ToolMachine(tmp_path)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "labctl.yaml").write_text(f"hosts_file: {tmp_path}/hosts\n")
    return tool_machine


def _states(report: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["state"] for check in report["checks"]}


def test_without_tools_every_check_is_reported_and_the_exit_code_is_8(machine: ToolMachine) -> None:
    code, report = machine.labctl("doctor")

    assert (code, report["ok"], report["lab"]) == (8, False, "demo")
    assert list(_states(report)) == [check.id for check in CHECKS]
    assert _states(report)["tools"] == "broken"


def test_the_output_of_tools_is_parsed(machine: ToolMachine) -> None:
    machine.put("docker", DOCKER)
    machine.put("vagrant", "echo Vagrant 2.3.4")
    machine.put("VBoxManage", VBOXMANAGE)

    code, report = machine.labctl("doctor")

    states = _states(report)
    assert code == 8
    assert {name: states[name] for name in ("engine", "vagrant", "docker-networks", "pool-dhcp")} == {
        "engine": "ok",
        "vagrant": "ok",
        "docker-networks": "broken",
        "pool-dhcp": "broken",
    }


def test_a_pool_outside_virtualboxs_dhcp_range_is_chosen(machine: ToolMachine) -> None:
    machine.put("docker", DOCKER)
    machine.put("VBoxManage", VBOXMANAGE)
    (machine.folder / "labctl.yaml").write_text(f"pool: auto\nhosts_file: {machine.folder}/hosts\n")

    _, report = machine.labctl("doctor")

    assert _states(report)["pool-dhcp"] == "ok"
    (pool,) = (check for check in report["checks"] if check["id"] == "pool")
    assert "192.168.56.31-192.168.56.99" in pool["seen"]


def test_up_reports_everything_that_is_missing_at_once(machine: ToolMachine) -> None:
    machine.put("docker", DOCKER)
    machine.put("ssh", "exit 0")
    (machine.folder / "labctl.yaml").write_text("hosts_file: /nowhere/hosts\n")

    code, result = machine.labctl("up")

    assert code == 3
    assert result["error"]["id"] == "machine-not-ready"
    assert all(each in result["error"]["message"] for each in ("vagrant", "/nowhere/hosts"))


# Machine itself


@pytest.fixture
def this_machine() -> Machine:
    return Machine()


def test_a_missing_program_is_none_and_a_failed_one_has_its_last_lines(
    this_machine: Machine, machine: ToolMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.programs))
    machine.put("fails", "echo reason >&2; exit 3")
    failed = this_machine.run("fails")

    assert this_machine.run("no-such-program") is None
    assert failed is not None
    assert (failed.code, failed.last_lines) == (3, ("reason",))


def test_a_program_that_hangs_counts_as_failed(
    this_machine: Machine, machine: ToolMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.programs))
    monkeypatch.setattr("labctl.host.machine.TOOL_SECONDS", 0.2)
    machine.put("hangs", "sleep 30")
    hung = this_machine.run("hangs")

    assert hung is not None
    assert hung.code != 0
    assert "took more than" in hung.last_lines[0]


@pytest.mark.parametrize("act", [Machine.read, Machine.names])
def test_missing_and_unreadable_files_are_no_error(
    this_machine: Machine, tmp_path: Path, act: Callable[[Machine, Path], object]
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")

    assert not act(this_machine, tmp_path / "none")
    assert this_machine.read(tmp_path) is None
    assert this_machine.read(tmp_path / "bytes") == "\N{REPLACEMENT CHARACTER}"
    assert this_machine.names(tmp_path / "bytes") == ()


def test_free_space_is_known_for_folders_that_do_not_exist_yet(this_machine: Machine, tmp_path: Path) -> None:
    assert this_machine.free_space(tmp_path / "a" / "b") > 0


def test_addresses_outside_all_connected_networks_do_not_respond(this_machine: Machine) -> None:
    began = time.monotonic()

    assert interfaces.addresses_in_use([IPv4Address("203.0.113.7")], this_machine) == frozenset()
    assert time.monotonic() - began < 5


def test_no_address_responds_on_a_missing_interface(this_machine: Machine) -> None:
    address = IPv4Address("203.0.113.7")

    assert this_machine.answering([address], Route("labctl-none", address, "")) == frozenset()


def test_an_unreachable_server_is_reported_with_the_reason(
    this_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)

    assert "refused" in this_machine.unreachable("http://127.0.0.1:9/")
    assert this_machine.unreachable("no url")

    def answer(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-another-protocol\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        assert "SSH" in this_machine.unreachable(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
