"""What the machine's own words mean for its nodes."""

from __future__ import annotations

import pytest

from labctl.host.docker_engine import can_be_privileged, proxy_mode
from labctl.host.known_failures import recognised
from labctl.model.errors import ProviderError
from labctl.providers.vagrant import PASSING


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
def test_kube_proxy_uses_nftables_where_the_kernel_is_new_enough(release: str, mode: str) -> None:
    assert proxy_mode(release) == mode


@pytest.mark.parametrize(
    ("status", "possible"),
    [
        ("Name:\tx\nCapBnd:\t000001ffffffffff\n", True),
        ("CapBnd:\t000001fffeffffff\n", False),
        ("CapBnd:\t0000000000000000\n", False),
        ("CapEff:\t0000000000000000\n", True),
        ("", True),
    ],
)
def test_a_container_can_be_privileged_where_no_capability_that_it_asks_for_is_missing(
    status: str, *, possible: bool
) -> None:
    assert can_be_privileged(status) is possible


@pytest.mark.parametrize(
    ("line", "passes"),
    [
        ("Stderr: Error: No such object: 8f2e", True),
        ("Stderr: Error response from daemon: No such container: demo-worker-1", True),
        ('Conflict. The container name "/demo-worker-1" is already in use by container "5d1b6f0c".', True),
        ("Error response from daemon: No such image: node", False),
        ("no space left on device", False),
    ],
)
def test_only_what_is_over_by_itself_is_worth_another_try(line: str, *, passes: bool) -> None:
    error = recognised(ProviderError("`vagrant up` failed", id="vagrant-failed"), line)

    assert (error.id in PASSING) is passes
