"""States of nodes, read from the output of the machine's tools."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from fakes import lab

from labctl.host.docker_engine import has_all_capabilities, proxy_mode
from labctl.host.known_failures import recognise
from labctl.host.machine import Machine
from labctl.host.process import Finished
from labctl.host.routes import TableRoute
from labctl.model.errors import ProviderError
from labctl.providers import libvirt_network, virsh
from labctl.providers.docker import Container
from labctl.providers.libvirt import LibvirtProvider
from labctl.providers.libvirt_network import LibvirtNetworks
from labctl.providers.vagrant import TRANSIENT


@pytest.mark.parametrize(
    ("status", "is_running", "is_on", "is_usable"),
    [
        ("Up 3 seconds", True, True, True),
        ("Up 3 days (healthy)", True, True, True),
        ("Up 4 minutes (Paused)", False, True, True),
        ("Restarting (1) 2 seconds ago", False, True, True),
        ("Created", False, False, True),
        ("Exited (137) 2 minutes ago", False, False, True),
        ("Removal In Progress", False, False, False),
        ("Dead", False, False, False),
    ],
)
def test_the_state_of_a_container_is_read_from_its_status(
    status: str, *, is_running: bool, is_on: bool, is_usable: bool
) -> None:
    container = Container("id", "demo-worker-1", status, frozenset({"lab"}), is_known=True)

    assert (container.runs, container.is_on, container.is_usable("lab")) == (is_running, is_on, is_usable)


@pytest.mark.parametrize(
    ("state", "is_running", "resumes"),
    [
        ("running (booted)", True, False),
        ("running (unpaused)", True, False),
        ("in shutdown (user)", True, False),
        ("paused (user)", False, True),
        ("paused (I/O error)", False, True),
        ("pmsuspended (unknown)", False, False),
        ("crashed (panicked)", False, False),
        ("shut off (destroyed)", False, False),
    ],
)
def test_a_libvirt_machine_that_is_not_running_is_reported_with_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, *, is_running: bool, resumes: bool
) -> None:
    machines = LibvirtProvider(lab(provider="libvirt"), tmp_path, {})
    worker = machines.lab.nodes[1]
    monkeypatch.setattr(virsh, "run_virsh", lambda *_words: Finished(0, f"{state}\n\n", ()))
    monkeypatch.setattr(machines, "run", lambda *_arguments: Finished(0, "ActiveState=active\nNRestarts=0\n", ()))

    failure = machines.failure(worker)

    assert (failure is None) is is_running
    if failure:
        assert (failure.is_running, state in failure.text, "resume" in failure.hint) == (False, True, resumes)


@pytest.mark.parametrize(
    ("release", "mode"),
    [
        ("6.12.1-amd64", "nftables"),
        ("5.13.0", "nftables"),
        ("5.10.0-28", "iptables"),
        ("4.19", "iptables"),
        ("", "iptables"),
    ],
)
def test_kube_proxy_uses_nftables_if_the_kernel_is_recent_enough(release: str, mode: str) -> None:
    assert proxy_mode(release) == mode


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Name:\tx\nCapBnd:\t000001ffffffffff\n", True),
        ("CapBnd:\t000001fffeffffff\n", False),
        ("CapBnd:\t0000000000000000\n", False),
        ("CapEff:\t0000000000000000\n", True),
        ("", True),
    ],
)
def test_a_container_can_be_privileged_if_the_process_has_all_capabilities(status: str, *, expected: bool) -> None:
    assert has_all_capabilities(status) is expected


@pytest.mark.parametrize(
    ("line", "is_retried"),
    [
        ("Stderr: Error: No such object: 8f2e", True),
        ("Stderr: Error response from daemon: No such container: demo-worker-1", True),
        ('Conflict. The container name "/demo-worker-1" is already in use by container "5d1b6f0c".', True),
        ("Error response from daemon: No such image: node", False),
        ("no space left on device", False),
    ],
)
def test_only_transient_failures_of_vagrant_are_retried(line: str, *, is_retried: bool) -> None:
    error = recognise(ProviderError("`vagrant up` failed", id="vagrant-failed"), line)

    assert (error.id in TRANSIENT) is is_retried


@pytest.mark.parametrize(
    ("message", "identity"),
    [
        ("error: internal error: Network is already in use by interface virbr7", "network-taken"),
        ("error creating bridge interface virbr7: File exists", "libvirt-bridge-taken"),
        ("error: Unable to find 'dnsmasq' binary in $PATH: No such file or directory", "network-not-started"),
    ],
)
def test_the_reason_for_a_failed_start_of_a_libvirt_network_is_recognised(
    tmp_path: Path, message: str, identity: str
) -> None:
    finished = Finished(1, "", ("error: Failed to start network labctl-demo", message))
    error = LibvirtNetworks(lab(), tmp_path)._start_error("labctl-demo", lab().network, finished)

    assert (error.id, bool(error.hint)) == (identity, True)


@pytest.mark.parametrize(
    ("routes", "first"),
    [
        ([], 130),
        (["192.168.130.0/24", "192.168.131.7/32"], 132),
        (["128.0.0.0/1", "192.168.0.0/16"], 130),  # a VPN for all addresses
        (["192.168.128.0/19"], 160),
    ],
)
def test_the_uplink_network_of_virtual_machines_uses_a_free_subnet(
    monkeypatch: pytest.MonkeyPatch, routes: list[str], first: int
) -> None:
    table_routes = [TableRoute(IPv4Network(route), "tun0") for route in routes]
    monkeypatch.setattr(libvirt_network, "routes", lambda _machine: table_routes)
    monkeypatch.setattr(libvirt_network, "interfaces", lambda _machine: ())

    assert libvirt_network.free_subnets(Machine(), lab(), [], [])[0] == IPv4Network(f"192.168.{first}.0/24")
