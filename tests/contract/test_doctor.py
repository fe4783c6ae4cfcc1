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
        ended = subprocess.run(line, env=environment, cwd=self.folder, capture_output=True, timeout=60, check=False)
        assert b"Traceback" not in ended.stderr, ended.stderr.decode()
        return ended.returncode, json.loads(ended.stdout.splitlines()[-1] if "up" in words else ended.stdout)


@pytest.fixture
def machine(tmp_path: Path) -> ToolMachine:
    """A machine without programs, with a hosts file of its own."""
    made = ToolMachine(tmp_path)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "labctl.yaml").write_text(f"hosts_file: {tmp_path}/hosts\n")
    return made


def _states(answer: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["state"] for check in answer["checks"]}


def test_without_any_tool_every_check_is_told_and_the_exit_code_is_8(machine: ToolMachine) -> None:
    code, answer = machine.labctl("doctor")

    assert (code, answer["ok"], answer["lab"]) == (8, False, "demo")
    assert list(_states(answer)) == [check.id for check in CHECKS]
    assert _states(answer)["tools"] == "broken"


def test_tools_are_asked_and_what_they_say_is_understood(machine: ToolMachine) -> None:
    machine.put("docker", DOCKER)
    machine.put("vagrant", "echo Vagrant 2.3.4")
    machine.put("VBoxManage", VBOXMANAGE)

    code, answer = machine.labctl("doctor")

    states = _states(answer)
    assert code == 8
    assert {name: states[name] for name in ("engine", "vagrant", "docker-networks", "pool-dhcp")} == {
        "engine": "ok",
        "vagrant": "ok",
        "docker-networks": "broken",
        "pool-dhcp": "broken",
    }


def test_a_pool_beside_virtualboxs_dhcp_server_is_chosen(machine: ToolMachine) -> None:
    machine.put("docker", DOCKER)
    machine.put("VBoxManage", VBOXMANAGE)
    (machine.folder / "labctl.yaml").write_text(f"pool: auto\nhosts_file: {machine.folder}/hosts\n")

    _, answer = machine.labctl("doctor")

    assert _states(answer)["pool-dhcp"] == "ok"
    (pool,) = (check for check in answer["checks"] if check["id"] == "pool")
    assert "192.168.56.31-192.168.56.99" in pool["seen"]


def test_up_says_all_that_is_missing_at_once(machine: ToolMachine) -> None:
    machine.put("docker", DOCKER)
    machine.put("ssh", "exit 0")
    (machine.folder / "labctl.yaml").write_text("hosts_file: /nowhere/hosts\n")

    code, answer = machine.labctl("up")

    assert code == 3
    assert answer["error"]["id"] == "machine-not-ready"
    assert "not on this machine: vagrant" in answer["error"]["message"]
    assert "/nowhere/hosts" in answer["error"]["message"]


# Machine itself


@pytest.fixture
def seen() -> Machine:
    return Machine()


def test_a_program_that_is_not_there_is_none_and_one_that_fails_says_why(
    seen: Machine, machine: ToolMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.programs))
    machine.put("fails", "echo reason >&2; exit 3")
    failed = seen.run("fails")

    assert seen.run("no-such-program") is None
    assert failed is not None
    assert (failed.code, failed.last_lines) == (3, ("reason",))


def test_a_program_that_hangs_has_failed(seen: Machine, machine: ToolMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine.programs))
    monkeypatch.setattr("labctl.host.machine.TOOL_SECONDS", 0.2)
    machine.put("hangs", "sleep 30")
    hung = seen.run("hangs")

    assert hung is not None
    assert hung.code != 0
    assert "took more than" in hung.last_lines[0]


@pytest.mark.parametrize("act", [Machine.read, Machine.names])
def test_what_is_not_there_or_not_readable_is_no_error(
    seen: Machine, tmp_path: Path, act: Callable[[Machine, Path], object]
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")

    assert not act(seen, tmp_path / "none")
    assert seen.read(tmp_path) is None
    assert seen.read(tmp_path / "bytes") == "\N{REPLACEMENT CHARACTER}"
    assert seen.names(tmp_path / "bytes") == ()


def test_space_is_told_of_folders_that_are_yet_to_be_made(seen: Machine, tmp_path: Path) -> None:
    assert seen.free_space(tmp_path / "a" / "b") > 0


def test_addresses_that_no_interface_is_near_do_not_answer(seen: Machine) -> None:
    begun = time.monotonic()

    assert interfaces.answering([IPv4Address("203.0.113.7")], seen) == frozenset()
    assert time.monotonic() - begun < 5


def test_an_interface_that_is_gone_answers_nothing(seen: Machine) -> None:
    address = IPv4Address("203.0.113.7")

    assert seen.answering([address], Route("labctl-none", address, "")) == frozenset()


def test_a_server_that_is_not_there_says_why(seen: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)

    assert "refused" in seen.unreachable("http://127.0.0.1:9/")
    assert seen.unreachable("no url")

    def answer(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-another-protocol\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        assert "SSH" in seen.unreachable(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
