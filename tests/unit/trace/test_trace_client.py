"""Tests of the client: names, routes and ARP entries from this machine's files and commands."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from fakes import ADDRESS

from labctl.host import arp, tcp_connect
from labctl.host import hosts_file as hosts
from labctl.host.arp import Route
from labctl.host.process import Finished
from labctl.host.resolver import HostsLine
from labctl.host.tcp_connect import ConnectResult
from labctl.trace.probes import client
from labctl.trace.probes.client import Client

HOST = "my-app.local"
OURS = IPv4Address(ADDRESS)
LINE = f"{ADDRESS} {HOST}"
BLOCK = f"# BEGIN labctl demo\n{LINE}\n# END labctl demo\n"
SECOND = "# BEGIN labctl second\n10.0.0.1 shop.local\n# END labctl second\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BLOCK, (2, LINE, "demo")),
        (BLOCK.removesuffix("\n"), (2, LINE, "demo")),
        (BLOCK.replace("\n", "\r\n"), (2, LINE, "demo")),
        (f"127.0.0.1 localhost\n\n{BLOCK}", (4, LINE, "demo")),
        (f"{LINE}\n{BLOCK}", (1, LINE, None)),
        (f"{SECOND}{BLOCK}", (5, LINE, "demo")),
        (f"{BLOCK}{SECOND}", (2, LINE, "demo")),
        (f"{SECOND}{LINE}\n", (4, LINE, None)),
        (SECOND.replace("shop.local", "a.local") + BLOCK.replace("demo", "third"), (5, LINE, "third")),
        (f"192.168.56.77 {HOST}\n{BLOCK}", (3, LINE, "demo")),
        (f"::1 {HOST}\n{BLOCK}", (3, LINE, "demo")),
        (f"# {LINE}\n{BLOCK}", (3, LINE, "demo")),
        (f"{ADDRESS} other # {HOST}\n{BLOCK}", (3, LINE, "demo")),
        (f"{HOST}\nnonsense {HOST}\n{ADDRESS}\n{BLOCK}", (5, LINE, "demo")),
        (f"  {ADDRESS}\tother\t{HOST}  # the lab\n", (1, f"{ADDRESS}\tother\t{HOST}  # the lab", None)),
        (f"{ADDRESS} My-App.LOCAL\n", (1, f"{ADDRESS} My-App.LOCAL", None)),
    ],
)
def test_the_hosts_line_of_a_name_and_address_is_found(
    hosts_file: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: tuple[int, str, str | None]
) -> None:
    number, text, block = expected
    hosts_file.write_bytes(content.encode())
    monkeypatch.setattr(client, "HOSTS", hosts_file)

    assert Client().hosts_line(HOST, OURS) == HostsLine(number, OURS, text, block)


@pytest.mark.parametrize(
    "content", ["", SECOND, f"192.168.56.77 {HOST}\n", f"{ADDRESS} not-{HOST}\n", f"{ADDRESS}0 {HOST}\n", f"#{LINE}\n"]
)
def test_a_file_without_a_matching_line_has_no_hosts_line(
    hosts_file: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    hosts_file.write_text(content)
    monkeypatch.setattr(client, "HOSTS", hosts_file)

    assert Client().hosts_line(HOST, OURS) is None


def test_a_missing_file_has_no_hosts_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HOSTS", tmp_path / "none")

    assert Client().hosts_line(HOST, OURS) is None


def test_a_folder_has_no_hosts_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HOSTS", tmp_path)

    assert Client().hosts_line(HOST, OURS) is None


def test_undecodable_bytes_do_not_hide_the_following_line(hosts_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts_file.write_bytes(b"10.0.0.1 caf\xe9\n" + BLOCK.encode())
    monkeypatch.setattr(client, "HOSTS", hosts_file)

    assert Client().hosts_line(HOST, OURS) == HostsLine(3, OURS, LINE, "demo")


def test_a_line_written_by_sync_is_found(hosts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.sync(hosts_file, "demo", {"shop.local": OURS, HOST: OURS}, backup=tmp_path / "backup")
    monkeypatch.setattr(client, "HOSTS", hosts_file)

    assert Client().hosts_line(HOST, OURS) == HostsLine(4, OURS, LINE, "demo")


def test_an_ipv6_address_is_found_in_any_notation(hosts_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts_file.write_text(f"0:0:0:0:0:0:0:1 {HOST}\n{BLOCK}")
    monkeypatch.setattr(client, "HOSTS", hosts_file)
    loopback = IPv6Address("::1")

    assert Client().hosts_line(HOST, loopback) == HostsLine(1, loopback, f"0:0:0:0:0:0:0:1 {HOST}", None)


@pytest.mark.parametrize(
    ("output", "route"),
    [
        (
            '[{"dst":"192.168.56.100","dev":"br-1","prefsrc":"192.168.56.1","flags":[],"uid":0,"cache":[]}]',
            Route("br-1", IPv4Address("192.168.56.1"), ""),
        ),
        (
            '[{"dst":"192.168.56.100","gateway":"10.0.0.1","dev":"eth0","prefsrc":"10.0.0.2","flags":[],"cache":[]}]',
            Route("eth0", IPv4Address("10.0.0.2"), "10.0.0.1"),
        ),
    ],
)
def test_the_route_is_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch, output: str, route: Route) -> None:
    commands: list[Sequence[str]] = []

    def run(line: Sequence[str]) -> Finished:
        commands.append(line)
        return Finished(0, output, ())

    monkeypatch.setattr(arp, "run", run)

    assert Client().route(OURS) == route
    assert commands == [["ip", "-j", "-4", "route", "get", ADDRESS]]


def test_an_unreachable_network_has_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Finished(2, "", ("RTNETLINK answers: Network is unreachable",))
    monkeypatch.setattr(arp, "run", lambda _line: refusal)

    assert Client().route(OURS) is None


@pytest.mark.parametrize(
    ("address", "route", "outcome"),
    [
        ("192.168.56.77", Route("br-1", OURS, ""), "silent"),
        ("192.168.57.77", Route("eth0", OURS, "10.0.0.1"), "refused"),
        ("192.168.57.77", None, "silent"),
        ("fd00::1", Route("eth0", OURS, "10.0.0.1"), "silent"),
    ],
)
def test_an_unused_address_in_a_connected_network_is_silent_and_not_refused(
    monkeypatch: pytest.MonkeyPatch, address: str, route: Route | None, outcome: str
) -> None:
    target = ip_address(address)
    monkeypatch.setattr(
        tcp_connect, "connect_once", lambda *_arguments: {target: ConnectResult("unreachable", "No route to host")}
    )
    monkeypatch.setattr(arp, "route", lambda _address: route)

    assert Client().connect([target], 1.0) == {target: ConnectResult(outcome, "No route to host")}  # type: ignore[arg-type]
