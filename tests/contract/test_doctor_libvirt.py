"""`doctor` on a machine with a real libvirt, run by an ordinary user."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt_machine
import pytest
from libvirt_machine import HOME, LibvirtMachine

pytestmark = [pytest.mark.root, pytest.mark.slow]

Rows = dict[str, dict[str, Any]]
NETWORK = '<network><name>theirs</name><bridge name="theirs0"/><ip address="192.168.56.1" prefix="24"/></network>'
POOL = Path("/var/lib/libvirt/images")
LIBVIRT_CHECKS = ("libvirt", "libvirt-plugin", "libvirt-pool", "qemu-access", "libvirt-networks", "libvirt-management")


@pytest.fixture
def machine() -> Iterator[LibvirtMachine]:
    disk = Path(tempfile.mkdtemp(prefix="labctl-doctor-", dir="/var/tmp"))
    try:
        with libvirt_machine.running("tests-doctor", disk) as machine:
            yield machine
    finally:
        shutil.rmtree(disk)


def test_doctor_parses_the_output_of_a_real_libvirt(machine: LibvirtMachine) -> None:
    new = _doctor(machine, "auto")
    assert "libvirt can be used" in new["provider"]["seen"]
    assert _states(new) == ["ok", "ok", "ok", "not relevant", "ok", "ok"]

    machine.virsh("pool-define-as", "default", "dir", "--target", str(POOL))
    machine.path(HOME / "network.xml").write_text(NETWORK, encoding="ascii")
    machine.virsh("net-define", str(HOME / "network.xml"))
    in_the_way = _doctor(machine, "libvirt")
    assert _states(in_the_way) == ["ok", "ok", "broken", "ok", "broken", "ok"]
    assert (in_the_way["libvirt-networks"]["cause"], "theirs" in in_the_way["libvirt-networks"]["seen"]) == (
        "network-taken",
        True,
    )

    machine.virsh("pool-start", "default")
    machine.virsh("net-undefine", "theirs")
    machine.run("root", "chmod", "700", str(POOL))  # only root may enter, so QEMU's user may not
    closed = _doctor(machine, "libvirt")
    assert _states(closed) == ["ok", "ok", "ok", "warning", "ok", "ok"]
    assert str(POOL) in closed["qemu-access"]["seen"]

    machine.stop_libvirt()
    silent = _doctor(machine, "libvirt")
    assert _states(silent) == ["broken", "ok", *["not relevant"] * 4]
    assert silent["libvirt"]["cause"] == "libvirt-unreachable"


def _doctor(machine: LibvirtMachine, provider: str) -> Rows:
    machine.path(HOME / "labctl.yaml").write_text(f"provider: {provider}\n", encoding="ascii")
    report = json.loads(machine.labctl("-o", "json", "doctor", code=None).out)
    return {check["id"]: check for check in report["checks"]}


def _states(rows: Rows) -> list[str]:
    return [rows[name]["state"] for name in LIBVIRT_CHECKS]
