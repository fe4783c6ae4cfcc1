"""Nodes, addresses and pools of a lab."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from labctl.model.lab import MAX_WORKERS, POD_NETWORK, AddressPool, App, Lab, Node, Role, announcing_order

LAB = Lab(
    name="demo",
    provider="docker",
    network=IPv4Network("192.168.56.0/24"),
    workers=2,
    cpus=2,
    memory=2048,
    pool=AddressPool(IPv4Address("192.168.56.100"), IPv4Address("192.168.56.110")),
    kubernetes="1.37.2",
    ingress="traefik",
    apps=(App("my-app", "my-app.local", "nginx", 80, 1), App("shop", "shop.test", "nginx", 80, 1)),
    hosts_file=Path("/etc/hosts"),
)


def test_the_control_plane_comes_first_and_workers_are_numbered_after_it() -> None:
    assert LAB.nodes == (
        Node("demo-control-plane", Role.CONTROL_PLANE, IPv4Address("192.168.56.10"), IPv4Network("10.244.0.0/24")),
        Node("demo-worker-1", Role.WORKER, IPv4Address("192.168.56.11"), IPv4Network("10.244.1.0/24")),
        Node("demo-worker-2", Role.WORKER, IPv4Address("192.168.56.12"), IPv4Network("10.244.2.0/24")),
    )
    assert LAB.control_plane == LAB.nodes[0]


def test_a_lab_without_workers_has_only_its_control_plane() -> None:
    assert replace(LAB, workers=0).nodes == (LAB.control_plane,)


@pytest.mark.parametrize(
    ("name", "workers", "announcer"),
    [
        ("bench", 1, "bench-control-plane"),
        ("bench-1", 1, "bench-1-worker-1"),
        ("bench", 2, "bench-worker-2"),
        ("demo", 0, "demo-control-plane"),
    ],
)
def test_the_announcing_node_is_predicted_as_metallb_chooses_it(name: str, workers: int, announcer: str) -> None:
    """The expected nodes were observed on real labs."""
    described = replace(LAB, name=name, workers=workers)
    names = [node.name for node in described.serving_nodes]
    assert announcing_order(names, described.pool.first)[0] == announcer


def test_possible_nodes_start_with_the_nodes_and_have_unique_addresses_and_pod_networks() -> None:
    possible = LAB.possible_nodes

    assert possible[:3] == LAB.nodes
    assert len({node.address for node in possible}) == len({node.pod_network for node in possible}) == MAX_WORKERS + 1
    assert all(node.pod_network.subnet_of(POD_NETWORK) for node in possible)


def test_a_small_network_limits_the_possible_nodes() -> None:
    possible = replace(LAB, network=IPv4Network("192.168.56.0/28")).possible_nodes

    assert possible[-1].address == IPv4Address("192.168.56.15")


def test_addresses_of_gateway_api_and_apps_are_derived_from_the_lab() -> None:
    assert LAB.gateway == IPv4Address("192.168.56.1")
    assert LAB.api_server == "https://192.168.56.10:6443"
    assert LAB.urls == ("http://my-app.local", "http://shop.test")


@pytest.mark.parametrize(("last_byte", "inside"), [(99, False), (100, True), (105, True), (110, True), (111, False)])
def test_a_pool_includes_both_its_ends(last_byte: int, *, inside: bool) -> None:
    assert (IPv4Address(f"192.168.56.{last_byte}") in LAB.pool) is inside


def test_a_pool_has_a_length_and_is_printed_as_a_range() -> None:
    assert len(LAB.pool) == len(list(LAB.pool)) == 11
    assert str(LAB.pool) == "192.168.56.100-192.168.56.110"
    assert "192.168.56.100" not in LAB.pool
