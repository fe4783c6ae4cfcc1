"""Routes and rules that take a lab's packets: doctor's decision must match the kernel's."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from tracing import start, unshare_network, wait_for_exit

from labctl.doctor import Machine
from labctl.doctor.routes import conflicting_route
from labctl.host.process import check, run
from labctl.host.routes import routes, rules

pytestmark = pytest.mark.root

LAB = IPv4Network("192.168.56.0/24")
DESTINATIONS = ("192.168.56.10", "192.168.56.100", "192.168.56.200")
FIRST = ("rule add priority 100 lookup 52",)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("route add 0.0.0.0/1 dev tun", "route add 128.0.0.0/1 dev tun"),
        ("route add 192.168.0.0/16 dev tun",),
        ("route add 192.168.56.0/24 dev tun",),
        ("route add 192.168.56.128/25 dev tun",),
        ("route add 192.168.56.100/32 dev tun metric 600",),
        ("route add unreachable 192.168.56.0/24 metric 4294967295",),
        ("route add blackhole 192.168.56.0/24 metric 7",),
        ("route add prohibit 192.168.56.0/24",),
        ("route add unreachable 192.168.56.192/26",),
        ("route add blackhole 192.168.0.0/16",),
        ("route add throw 192.168.56.100/32",),
        (*FIRST, "route add 192.168.0.0/16 dev tun table 52"),
        (*FIRST, "route add default dev tun table 52"),
        (*FIRST, "route add 10.0.0.0/8 dev tun table 52"),
        (*FIRST, "route add 192.168.0.0/16 dev tun table 52", "route add throw 192.168.56.0/24 table 52"),
        (*FIRST, "route add 192.168.0.0/16 dev tun table 52", "rule add to 192.168.56.0/24 lookup main priority 99"),
        ("rule add priority 100 fwmark 1 lookup 52", "route add default dev tun table 52"),
        ("rule add priority 100 not fwmark 1 lookup 52", "route add default dev tun table 52"),
        (
            "rule add priority 99 lookup main suppress_prefixlength 0",
            "rule add priority 100 not fwmark 1 lookup 52",
            "route add default dev tun table 52",
        ),
        ("rule add priority 100 to 192.168.56.0/24 unreachable",),
        (
            "rule add priority 99 to 192.168.56.0/24 lookup main suppress_prefixlength 0",
            "rule add priority 100 to 192.168.56.0/24 unreachable",
        ),
        ("rule add priority 100 from 10.8.0.2 lookup 52", "route add default dev tun table 52"),
    ],
    ids=", ".join,
)
def test_the_doctor_and_the_kernel_agree(lines: tuple[str, ...]) -> None:
    def in_child() -> None:
        unshare_network()
        for line in (
            "link add tun type veth peer name far",
            "link add lab type veth peer name node",
            *(f"link set {name} up" for name in ("lo", "tun", "far", "lab", "node")),
            "address add 10.8.0.2/24 dev tun",
            *lines,
        ):
            check(["ip", *line.split()])
        machine = Machine()
        known = routes(machine)
        assert known is not None
        obstacle = conflicting_route(LAB, known, rules(machine))
        # Add the lab's network as Docker does.
        check(["ip", "address", "add", "192.168.56.1/24", "dev", "lab"])
        reached = [run(["ip", "route", "get", address]).out for address in DESTINATIONS]

        assert (obstacle is None) == all(" dev lab " in route for route in reached), (obstacle, reached)

    assert wait_for_exit(start(in_child)) == 0
