"""Variables with which a program reaches the lab without a proxy."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, ip_network

import pytest
from fakes import lab

from labctl.commands.labs import environment
from labctl.context import Context
from labctl.host.proxies import exceptions, proxy_of, without_proxy

LABS_EXCEPTIONS = "192.168.56.0/24,10.244.0.0/16,10.96.0.0/12,my-app.local,.svc,.cluster.local"


@pytest.mark.parametrize(
    ("users", "value"),
    [
        ({}, LABS_EXCEPTIONS),
        ({"NO_PROXY": "intra.example"}, f"intra.example,{LABS_EXCEPTIONS}"),
        ({"no_proxy": " intra.example , ,10.0.0.0/8"}, f"intra.example,10.0.0.0/8,{LABS_EXCEPTIONS}"),
        ({"no_proxy": "a", "NO_PROXY": "b,a"}, f"a,b,{LABS_EXCEPTIONS}"),
        (
            {"NO_PROXY": ".svc,192.168.56.0/24"},
            ".svc,192.168.56.0/24,10.244.0.0/16,10.96.0.0/12,my-app.local,.cluster.local",
        ),
        # Programs accept a * only as the sole entry.
        ({"NO_PROXY": "*"}, "*"),
        ({"no_proxy": "a,*"}, "*"),
    ],
)
def test_the_labs_exceptions_are_added_to_the_users_in_both_spellings(users: dict[str, str], value: str) -> None:
    assert without_proxy(lab(), users) == {"NO_PROXY": value, "no_proxy": value}


def test_the_exceptions_cover_every_address_and_name_of_the_lab() -> None:
    described = lab(workers=2, apps=[{"name": "a"}, {"name": "b", "hostname": "b.test"}])
    words = exceptions(described)
    networks = [ip_network(word) for word in words if "/" in word]
    addresses = [
        *(node.address for node in described.nodes),
        *described.pool,
        IPv4Address("10.96.0.1"),
        IPv4Address("10.244.2.9"),
    ]

    assert all(any(address in network for network in networks) for address in addresses)
    assert {"a.local", "b.test"} <= set(words)


def test_programs_of_exec_and_demos_bypass_the_proxy_for_the_lab(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intra.example")
    variables = {**os.environ, **environment(context)}

    assert variables["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert variables["NO_PROXY"] == variables["no_proxy"] == f"intra.example,{LABS_EXCEPTIONS}"


@pytest.mark.parametrize(
    ("url", "variables", "name"),
    [
        ("https quay.io", {}, None),
        ("https quay.io", {"http_proxy": "a"}, None),
        ("https quay.io", {"https_proxy": "a", "HTTPS_PROXY": "b"}, "https_proxy"),
        ("https quay.io", {"HTTPS_PROXY": "b", "all_proxy": "c"}, "HTTPS_PROXY"),
        ("https quay.io", {"ALL_PROXY": "b"}, "ALL_PROXY"),
        ("http 10.0.0.5", {"http_proxy": "a", "no_proxy": "10.0.0.0/8"}, None),
        ("http 10.0.0.5", {"http_proxy": "a", "no_proxy": "10.0.0.5"}, None),
        ("http 10.0.0.5", {"http_proxy": "a", "no_proxy": "10.1.0.0/16"}, "http_proxy"),
        ("https quay.io", {"https_proxy": "a", "NO_PROXY": "k8s.io, .quay.io"}, None),
        ("https myquay.io", {"https_proxy": "a", "NO_PROXY": "quay.io"}, "https_proxy"),
        ("https quay.io", {"https_proxy": "a", "NO_PROXY": "*"}, None),
        ("https quay.io", {"https_proxy": "a", "no_proxy": "k8s.io", "NO_PROXY": "quay.io"}, "https_proxy"),
        ("http localhost", {"http_proxy": "a"}, None),
        ("http 127.0.0.1", {"http_proxy": "a"}, None),
        ("http ::1", {"http_proxy": "a"}, None),
    ],
)
def test_a_download_uses_the_proxy_of_its_scheme(url: str, variables: dict[str, str], name: str | None) -> None:
    scheme, hostname = url.split()
    proxy = proxy_of(scheme, hostname, variables)

    assert (proxy and proxy[0]) == name
