"""Conflicts with other networks and addresses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded_machine import run_check

from labctl.config import saved_lab
from labctl.context import Context

ADDRESSES = {"ip -j address show": "ip-address.json"}
VIRTUALBOX = {"VBoxManage list dhcpservers": "vbox-dhcpservers.txt"}
NETWORKS = {"docker network ls --quiet": ("5e1b\n0c0e\n9b8a\n", 0)}
INSPECT = "docker network inspect 5e1b 0c0e 9b8a"


@pytest.mark.parametrize("identity", ["network", "pool", "pool-dhcp", "pool-answers"])
def test_network_checks_are_not_relevant_for_an_isolated_lab(context: Context, identity: str) -> None:
    said = {**ADDRESSES, **VIRTUALBOX, **NETWORKS, INSPECT: "docker-networks.json"}
    finding = run_check(identity, replace(context, isolated=True), outputs=said)

    assert (finding.state, "isolated" in finding.observation) == ("not relevant", True)


def test_the_pool_of_an_existing_lab_is_not_probed(context: Context) -> None:
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))

    assert run_check("pool-answers", context, outputs=ADDRESSES, neighbours={"192.168.56.100"}).state == "not relevant"
