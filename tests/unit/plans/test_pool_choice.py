"""The choice of a free pool."""

from __future__ import annotations

import pytest
from fakes import lab
from golden_files import Golden
from recorded_machine import Recorded

from labctl.config import saved_lab
from labctl.model import pools
from labctl.model.errors import MissingError, UsageError
from labctl.model.lab import AddressPool
from labctl.plans import pool_choice

ADDRESSES = {"ip -j address show": "ip-address.json"}
VIRTUALBOX = {"VBoxManage list dhcpservers": "vbox-dhcpservers.txt"}


def test_no_arp_request_is_sent_on_an_interface_that_is_down_or_in_another_network() -> None:
    machine = Recorded(outputs=ADDRESSES)
    pool_choice.free_pool(lab(network="192.168.60.0/24"), machine)
    pool_choice.free_pool(lab(network="10.20.0.0/24"), machine)

    assert machine.queried == []


@pytest.mark.parametrize(
    ("network", "used_ranges", "pool"),
    [
        ("192.168.56.0/24", [], "192.168.56.100-192.168.56.110"),
        ("192.168.56.0/24", ["192.168.56.200-192.168.56.220"], "192.168.56.100-192.168.56.110"),
        ("192.168.56.0/24", ["192.168.56.100-192.168.56.254"], "192.168.56.31-192.168.56.99"),
        ("192.168.56.0/24", ["192.168.56.105-192.168.56.105"], "192.168.56.106-192.168.56.254"),
        ("192.168.56.0/24", ["192.168.0.0-192.168.56.200"], "192.168.56.201-192.168.56.254"),
        (
            "192.168.56.0/24",
            ["192.168.56.40-192.168.200.0", "192.168.57.0-192.168.57.9"],
            "192.168.56.31-192.168.56.39",
        ),
        ("192.168.56.0/28", [], "192.168.56.2-192.168.56.9"),
        # Without other free addresses, those of workers that the lab does not have.
        ("192.168.56.0/28", ["192.168.56.2-192.168.56.9"], "192.168.56.12-192.168.56.14"),
    ],
)
def test_the_default_range_is_chosen_if_free_otherwise_the_largest_free_one(
    network: str, used_ranges: list[str], pool: str
) -> None:
    owners = {_range(each): "a neighbour" for each in used_ranges}
    chosen, reason = pools.plan(lab(network=network, pool="auto"), owners)

    assert str(chosen) == pool
    assert reason.startswith(pool)


def test_the_reason_names_the_owner_of_the_default_range(golden: Golden) -> None:
    _, reason = pools.plan(lab(pool="auto"), {_range("192.168.56.105-192.168.56.105"): "a printer"})

    assert "192.168.56.105" in reason
    golden(reason)


def test_no_free_range_is_one_error_that_names_the_owner(golden: Golden) -> None:
    with pytest.raises(MissingError) as raised:
        pools.plan(lab(pool="auto"), {_range("192.168.56.0-192.168.56.255"): "a VPN"})

    assert raised.value.id == "no-free-pool"
    golden(raised.value.message)


def test_the_choice_avoids_conflicts_that_doctor_finds(golden: Golden) -> None:
    neighbours = {"192.168.56.40"}
    pool, reason = pool_choice.free_pool(
        lab(pool="auto"), Recorded(outputs={**VIRTUALBOX, **ADDRESSES}, neighbours=neighbours)
    )

    assert str(pool) == "192.168.56.41-192.168.56.99"
    golden(reason)


def test_an_existing_lab_keeps_its_pool(golden: Golden) -> None:
    saved = lab(pool="192.168.56.40-192.168.56.50")
    kept, reason = pool_choice.choose_pool(lab(pool="auto", workers=3), saved, isolated=False)

    assert (kept.pool, kept.workers) == (saved.pool, 3)
    golden(reason)


def test_workers_with_addresses_in_the_saved_pool_are_refused(golden: Golden) -> None:
    saved = lab(pool="192.168.56.12-192.168.56.14", workers=0)

    with pytest.raises(UsageError, match=r"192\.168\.56\.12") as raised:
        pool_choice.choose_pool(lab(pool="auto", workers=2), saved, isolated=False)

    golden(raised.value.message)


def test_an_isolated_lab_avoids_only_the_addresses_of_its_own_nodes(golden: Golden) -> None:
    chosen, reason = pool_choice.choose_pool(lab(pool="auto"), None, isolated=True)

    assert str(chosen.pool) == "192.168.56.100-192.168.56.110"
    golden(reason)


@pytest.mark.parametrize("network", ["10.20.0.0/24", "192.168.56.0/28"])
def test_a_chosen_pool_is_not_a_problem_of_a_changed_network(network: str) -> None:
    chosen, _ = pool_choice.choose_pool(lab(pool="auto", network=network), lab(), isolated=False)

    assert chosen.pool.first in chosen.network
    with pytest.raises(UsageError, match=f"network: .*{network}") as raised:
        saved_lab.refuse_differences(
            saved_lab.SavedLab(lab(), isolated=False), saved_lab.SavedLab(chosen, isolated=False)
        )
    assert raised.value.id == "lab-differs"


def test_a_configured_pool_is_not_changed() -> None:
    named = lab(pool="192.168.56.40-192.168.56.50")

    assert pool_choice.choose_pool(named, None, isolated=False) == (named, "")


def _range(written: str) -> AddressPool:
    first, _, last = written.partition("-")
    return AddressPool(type(lab().gateway)(first), type(lab().gateway)(last))
