"""Neighbours, routes, filters and connections, as a trace's client sees them on a test network."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from tracing import mount, start, unshare_mounts, unshare_network, wait_for_exit

from labctl.host import arp
from labctl.host.arp import Neighbour, Route
from labctl.host.interfaces import Interface
from labctl.host.process import check, run
from labctl.host.tcp_connect import CONNECTED, SILENT, ConnectResult
from labctl.model.limits import NORMAL
from labctl.trace.probes.client import Client
from labctl.trace.probes.filters import Stop
from labctl.trace.probes.packets import Packet

pytestmark = pytest.mark.root

MACHINE, NEIGHBOUR, NOBODY = (IPv4Address(f"192.0.2.{last}") for last in (1, 10, 200))
MAC, WRONG = "02:00:00:00:00:10", "02:00:00:00:00:99"
ORDINARY_USER = 65534
SHORT = 0.5
REFUSED, TIMED_OUT = "Connection refused", f"no answer in {SHORT} s"
ROUTE = Route("lan", MACHINE, "")


def test_the_kernels_arp_entry_is_read_with_its_state() -> None:
    def in_child() -> None:
        _enter_network()
        assert Client().neighbour(NEIGHBOUR, ROUTE) is None

        check(["ip", "neigh", "add", str(NEIGHBOUR), "lladdr", WRONG, "dev", "lan", "nud", "stale"])
        assert Client().neighbour(NEIGHBOUR, ROUTE) == Neighbour(WRONG, "STALE")

        check(["ip", "neigh", "replace", str(NEIGHBOUR), "lladdr", WRONG, "dev", "lan", "nud", "permanent"])
        fixed = Client().neighbour(NEIGHBOUR, ROUTE)
        assert fixed == Neighbour(WRONG, "PERMANENT")
        assert fixed.is_permanent

        assert _probe(NOBODY).outcome == SILENT
        assert Client().neighbour(NOBODY, ROUTE) is None

    assert wait_for_exit(start(in_child)) == 0


def test_an_arp_request_finds_the_right_mac_despite_a_wrong_entry() -> None:
    def in_child() -> None:
        _enter_network()
        check(["ip", "neigh", "add", str(NEIGHBOUR), "lladdr", WRONG, "dev", "lan", "nud", "permanent"])

        assert Client().query_arp([NEIGHBOUR], ROUTE) == {NEIGHBOUR: {MAC}}
        assert _probe(NEIGHBOUR).outcome == SILENT

        check(["ip", "neigh", "del", str(NEIGHBOUR), "dev", "lan"])
        assert _probe(NEIGHBOUR).reason == REFUSED

    assert wait_for_exit(start(in_child)) == 0


def test_after_a_reply_arp_waits_only_for_a_second_one() -> None:
    def in_child() -> None:
        _enter_network()
        began = time.monotonic()
        assert Client().query_arp([NEIGHBOUR], ROUTE) == {NEIGHBOUR: {MAC}}

        assert arp.GRACE_SECONDS <= time.monotonic() - began < NORMAL.arp

    assert wait_for_exit(start(in_child)) == 0


def test_only_root_may_send_arp_and_read_filters() -> None:
    def in_child() -> None:
        _enter_network()
        assert Client().may_query_arp

        os.setuid(ORDINARY_USER)
        assert not Client().may_query_arp
        assert Client().filters() is None

    assert wait_for_exit(start(in_child)) == 0


def test_a_connection_fails_with_the_error_of_its_route() -> None:
    def in_child() -> None:
        _enter_network()
        assert _probe(MACHINE).reason == REFUSED
        with _listening():
            assert _probe(MACHINE).outcome == CONNECTED

        for kind, outcome in (
            ("unreachable", "No route to host"),
            ("blackhole", "Invalid argument"),
            ("prohibit", "Permission denied"),
            ("throw", "Network is unreachable"),
        ):
            check(["ip", "route", "add", kind, f"{NEIGHBOUR}/32"])
            assert _probe(NEIGHBOUR).reason == outcome
            assert Client().route(NEIGHBOUR) is None
            [route] = [each for each in Client().routes() if each.kind == kind]
            assert route.network == IPv4Network(NEIGHBOUR)
            check(["ip", "route", "del", kind, f"{NEIGHBOUR}/32"])

    assert wait_for_exit(start(in_child)) == 0


@pytest.mark.parametrize(
    ("rule", "outcome", "verdict"),
    [
        (["-d", str(NEIGHBOUR), "-j", "DROP"], TIMED_OUT, "drop"),
        (["-p", "tcp", "--dport", "80", "-j", "REJECT"], REFUSED, "reject"),
        (["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"], TIMED_OUT, "reject"),
        (["-d", "192.0.2.0/28", "-j", "REJECT", "--reject-with", "icmp-host-prohibited"], TIMED_OUT, "reject"),
        (["-d", "192.0.2.128/25", "-j", "DROP"], REFUSED, ""),
        (["-p", "udp", "-j", "DROP"], REFUSED, ""),
    ],
)
def test_the_rule_that_blocks_a_connection_is_found_and_its_removal_unblocks_it(
    rule: list[str], outcome: str, verdict: str
) -> None:
    def in_child() -> None:
        _enter_network()
        check(["iptables", "-N", "LOCAL"])
        check(["iptables", "-A", "OUTPUT", "-j", "LOCAL"])
        check(["iptables", "-A", "LOCAL", *rule])
        packet = Packet(MACHINE, NEIGHBOUR, None, 80, None, "lan", "new")
        filters = Client().filters()
        assert filters is not None
        ruleset, listing = filters
        stop = ruleset.stop(packet, "output", "postrouting")

        assert _probe(NEIGHBOUR).reason == outcome
        assert (stop.does if stop else "") == verdict
        if stop is not None:
            assert isinstance(stop, Stop)
            assert f"handle {stop.handle}" in listing
            check(list(stop.removal))
            assert _probe(NEIGHBOUR).reason == REFUSED

    assert wait_for_exit(start(in_child)) == 0


def test_a_drop_policy_is_found_and_reset() -> None:
    def in_child() -> None:
        _enter_network()
        check(["iptables", "-P", "OUTPUT", "DROP"])
        filters = Client().filters()
        assert filters is not None
        stop = filters[0].stop(Packet(MACHINE, NEIGHBOUR, None, 80, None, "lan", "new"), "output")
        assert stop is not None
        assert stop.handle is None

        check(list(stop.removal))
        assert _probe(NEIGHBOUR).reason == REFUSED

    assert wait_for_exit(start(in_child)) == 0


def test_interfaces_are_listed_with_their_mtu_and_state() -> None:
    def in_child() -> None:
        _enter_network()
        check(["ip", "link", "set", "lan", "mtu", "1400", "down"])
        [lan] = [each for each in Client().interfaces() if each.name == "lan"]

        assert lan == Interface("lan", (IPv4Interface(f"{MACHINE}/24"),), is_up=False, mtu=1400)

    assert wait_for_exit(start(in_child)) == 0


def _enter_network() -> None:
    """Move this process to a network with one neighbour, which refuses connections."""
    unshare_mounts()
    unshare_network()
    mount("none", Path("/run"), "tmpfs")
    mount("none", Path("/sys"), "sysfs")
    check(["ip", "link", "set", "lo", "up"])
    check(["ip", "link", "add", "lan", "type", "bridge"])
    check(["ip", "address", "add", f"{MACHINE}/24", "dev", "lan"])
    check(["ip", "link", "set", "lan", "up"])
    check(["ip", "netns", "add", "neighbour"])
    check(["ip", "link", "add", "n0", "type", "veth", "peer", "name", "eth0", "address", MAC, "netns", "neighbour"])
    check(["ip", "link", "set", "n0", "master", "lan", "up"])
    check(["ip", "-n", "neighbour", "address", "add", f"{NEIGHBOUR}/24", "dev", "eth0"])
    check(["ip", "-n", "neighbour", "link", "set", "eth0", "up"])
    assert run(["ip", "route", "get", str(NEIGHBOUR)]).code == 0


def _probe(address: IPv4Address) -> ConnectResult:
    return Client().connect([address], SHORT)[address]


@contextmanager
def _listening() -> Iterator[None]:
    with socket.create_server((str(MACHINE), 80)):
        yield
