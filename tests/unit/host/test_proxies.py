"""Variables with which a program reaches the lab without a proxy."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, ip_network

import pytest
from fakes import lab

from labctl.commands.labs import environment
from labctl.context import Context
from labctl.host.proxies import exceptions, proxy_of, without_proxy

OURS = "192.168.56.0/24,10.244.0.0/16,10.96.0.0/12,my-app.local,.svc,.cluster.local"


@pytest.mark.parametrize(
    ("users", "value"),
    [
        ({}, OURS),
        ({"NO_PROXY": "intra.example"}, f"intra.example,{OURS}"),
        ({"no_proxy": " intra.example , ,10.0.0.0/8"}, f"intra.example,10.0.0.0/8,{OURS}"),
        ({"no_proxy": "a", "NO_PROXY": "b,a"}, f"a,b,{OURS}"),
        (
            {"NO_PROXY": ".svc,192.168.56.0/24"},
            ".svc,192.168.56.0/24,10.244.0.0/16,10.96.0.0/12,my-app.local,.cluster.local",
        ),
        # Programs accept a * only as the sole entry.
        ({"NO_PROXY": "*"}, "*"),
        ({"no_proxy": "a,*"}, "*"),
    ],
)
def test_the_users_exceptions_stay_and_the_labs_are_added_in_both_cases(users: dict[str, str], value: str) -> None:
    assert without_proxy(lab(), users) == {"NO_PROXY": value, "no_proxy": value}


def test_every_address_and_name_of_the_lab_is_covered() -> None:
    asked = lab(workers=2, apps=[{"name": "a"}, {"name": "b", "hostname": "b.test"}])
    words = exceptions(asked)
    networks = [ip_network(word) for word in words if "/" in word]
    addresses = [
        *(node.address for node in asked.nodes),
        *asked.pool,
        IPv4Address("10.96.0.1"),
        IPv4Address("10.244.2.9"),
    ]

    assert all(any(address in network for network in networks) for address in addresses)
    assert {"a.local", "b.test"} <= set(words)


def test_what_exec_and_demos_start_does_not_ask_the_companys_proxy(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intra.example")
    made = {**os.environ, **environment(context)}

    assert made["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert made["NO_PROXY"] == made["no_proxy"] == f"intra.example,{OURS}"


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
def test_a_download_asks_the_proxy_of_its_scheme(url: str, variables: dict[str, str], name: str | None) -> None:
    scheme, hostname = url.split()
    proxy = proxy_of(scheme, hostname, variables)

    assert (proxy and proxy[0]) == name
