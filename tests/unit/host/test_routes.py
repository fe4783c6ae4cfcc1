"""Routes in the output of `ip`."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any

import pytest

from labctl.host import arp
from labctl.host.arp import Route
from labctl.host.process import Finished
from labctl.host.routes import parse_routes

ADDRESS = IPv4Address("192.168.56.100")
VIA_IPV6 = {"family": "inet6", "host": "fe80::1"}


@pytest.mark.parametrize(
    ("entry", "route"),
    [
        ({"dev": "br0", "prefsrc": "192.168.56.1"}, Route("br0", IPv4Address("192.168.56.1"), "")),
        (
            {"dev": "eth0", "prefsrc": "10.0.0.2", "gateway": "10.0.0.1"},
            Route("eth0", IPv4Address("10.0.0.2"), "10.0.0.1"),
        ),
        ({"dev": "eth0", "prefsrc": "10.0.0.2", "via": VIA_IPV6}, Route("eth0", IPv4Address("10.0.0.2"), "fe80::1")),
        ({"dev": "wg0"}, Route("wg0", IPv4Address(0), "")),
    ],
)
def test_the_route_to_an_address_is_parsed(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any], route: Route
) -> None:
    monkeypatch.setattr(arp, "run", lambda _line: Finished(0, json.dumps([{"dst": str(ADDRESS), **entry}]), ()))

    assert arp.route(ADDRESS) == route


def test_a_multipath_route_is_read_as_its_first_hop() -> None:
    hops = [{"dev": "eth0", "via": VIA_IPV6, "weight": 1}, {"dev": "eth1", "gateway": "10.1.0.1", "weight": 1}]
    listed: list[dict[str, Any]] = [
        {"dst": "default", "nexthops": hops},
        {"dst": "10.0.0.0/24", "dev": "eth0", "gateway": "10.0.0.1"},
    ]

    assert [(each.device, each.gateway) for each in parse_routes(listed)] == [("eth0", "fe80::1"), ("eth0", "10.0.0.1")]
