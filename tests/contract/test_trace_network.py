"""A trace's client on a test network with two neighbours."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tracing import BIND, mount, start, unshare_mounts, unshare_network, wait_for_exit

from labctl.host import interfaces
from labctl.host.arp import Route
from labctl.host.http_probe import POD_HEADER
from labctl.host.machine import Machine
from labctl.host.process import check
from labctl.model.lab import AddressPool
from labctl.trace.probes.client import Client

pytestmark = pytest.mark.root

HOST = "my-app.local"
MACHINE, FIRST, SECOND, SHARED, NOBODY = (IPv4Address(f"192.0.2.{last}") for last in (1, 10, 11, 100, 200))
"""Addresses of a documentation network."""
MACS = {FIRST: "02:00:00:00:00:10", SECOND: "02:00:00:00:00:11"}
ADDRESSES = (FIRST, SECOND, SHARED, NOBODY)
BROADCAST = IPv4Address("192.0.2.255")
ORDINARY_USER = 65534


@pytest.mark.parametrize("owners", [[FIRST], [FIRST, SECOND]], ids=["one", "two"])
def test_every_arp_reply_for_an_address_is_collected(owners: list[IPv4Address]) -> None:
    def in_child() -> None:
        _enter_network(owners)

        assert Client().query_arp(ADDRESSES, _route()) == {
            FIRST: {MACS[FIRST]},
            SECOND: {MACS[SECOND]},
            SHARED: {MACS[owner] for owner in owners},
            NOBODY: set(),
        }

    assert wait_for_exit(start(in_child)) == 0


def test_a_silent_address_is_queried_again() -> None:
    def in_child() -> None:
        _enter_network([])
        late = threading.Timer(
            0.4, check, [["ip", "-n", "neighbour1", "address", "add", f"{SHARED}/24", "dev", "eth0"]]
        )
        late.start()

        assert Client().query_arp([SHARED], _route()) == {SHARED: {MACS[SECOND]}}
        late.join()

    assert wait_for_exit(start(in_child)) == 0


@pytest.mark.parametrize("user", [0, ORDINARY_USER])
def test_doctor_finds_the_addresses_of_a_pool_that_are_in_use(user: int) -> None:
    def in_child() -> None:
        _enter_network([SECOND])
        os.setuid(user)
        pool = AddressPool(MACHINE, BROADCAST)
        addresses = interfaces.addresses_to_probe(pool, Machine())

        assert not {MACHINE, BROADCAST}.intersection(addresses)
        assert interfaces.addresses_in_use(addresses, Machine()) == {FIRST, SECOND, SHARED}

    assert wait_for_exit(start(in_child)) == 0


def test_without_root_arp_entries_come_from_the_kernel() -> None:
    def in_child() -> None:
        _enter_network([SECOND])
        os.setuid(ORDINARY_USER)

        assert Client().query_arp(ADDRESSES, _route()) == {
            FIRST: {MACS[FIRST]},
            SECOND: {MACS[SECOND]},
            SHARED: {MACS[SECOND]},
            NOBODY: set(),
        }

    assert wait_for_exit(start(in_child)) == 0


def test_the_route_is_the_kernels() -> None:
    def in_child() -> None:
        _enter_network([])
        assert _route() == Route("lan", MACHINE, "")
        assert Client().route(IPv4Address("198.51.100.1")) is None

        check(["ip", "route", "add", "default", "via", str(FIRST)])
        assert Client().route(IPv4Address("198.51.100.1")) == Route("lan", MACHINE, str(FIRST))

    assert wait_for_exit(start(in_child)) == 0


def test_the_reported_hosts_line_is_that_of_the_preferred_address(tmp_path: Path) -> None:
    def in_child() -> None:
        _enter_network([])
        file = tmp_path / "hosts"
        file.write_text(f"{NOBODY} {HOST}\r\n{SHARED}\t{HOST}\n")
        mount(file, Path("/etc/hosts"), flags=BIND)

        [preferred, *_], seconds = Client().resolve(HOST)
        line = Client().hosts_line(HOST, preferred)

        assert line is not None
        assert line.number == [NOBODY, SHARED].index(IPv4Address(str(preferred))) + 1
        assert 0 < seconds < 1
        assert Client().resolve("not-there.invalid")[0] == []

    assert wait_for_exit(start(in_child)) == 0


def test_a_request_is_timed_and_has_its_own_mark() -> None:
    requests: list[tuple[str | None, str | None]] = []

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.headers["Host"], self.headers["User-Agent"]))
            self.send_response(503)
            self.send_header(POD_HEADER, "my-app-1")
            self.end_headers()

    def in_child() -> None:
        _enter_network([])
        with _serving(App):
            first, second = (Client().fetch(HOST, MACHINE) for _ in range(2))

        assert (first.status, first.pod, first.failure) == (503, "my-app-1", "")
        assert first.client.startswith(f"{MACHINE}:")
        assert all(part is not None and 0 < part < 1 for part in first.seconds.values())
        assert requests == [(HOST, first.mark), (HOST, second.mark)]
        assert first.mark != second.mark

    assert wait_for_exit(start(in_child)) == 0


def test_a_failed_request_has_the_times_of_its_completed_phases() -> None:
    class Hangup(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.close_connection = True

    def in_child() -> None:
        _enter_network([])
        with _serving(Hangup):
            cut_off = Client().fetch(HOST, MACHINE)
        refused = Client().fetch(HOST, MACHINE)

        assert cut_off.status is None
        assert "closed connection" in cut_off.failure
        assert cut_off.seconds["connect"] is not None
        assert cut_off.seconds["first_byte"] is None
        assert refused.status is None
        assert "refused" in refused.failure
        assert refused.seconds == {"connect": None, "first_byte": None, "body": None}

    assert wait_for_exit(start(in_child)) == 0


def _enter_network(owners: list[IPv4Address]) -> None:
    """Move this process to a network with two neighbours, of which `owners` also have the shared address."""
    unshare_mounts()
    unshare_network()
    mount("none", Path("/run"), "tmpfs")
    mount("none", Path("/sys"), "sysfs")
    check(["ip", "link", "set", "lo", "up"])
    check(["ip", "link", "add", "lan", "type", "bridge"])
    check(["ip", "address", "add", f"{MACHINE}/24", "dev", "lan"])
    check(["ip", "link", "set", "lan", "up"])
    for number, (address, mac) in enumerate(MACS.items()):
        name = f"neighbour{number}"
        check(["ip", "netns", "add", name])
        check(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", name])
        check(["ip", "link", "set", name, "master", "lan", "up"])
        for own in (address, *([SHARED] if address in owners else [])):
            check(["ip", "-n", name, "address", "add", f"{own}/24", "dev", "eth0"])
        check(["ip", "-n", name, "link", "set", "eth0", "up"])


def _route() -> Route:
    route = Client().route(SHARED)
    assert route is not None
    return route


@contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[None]:
    with ThreadingHTTPServer((str(MACHINE), 80), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
