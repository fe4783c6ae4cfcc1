"""What keeps programs that work with the lab from asking a proxy, which cannot reach it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, ip_address, ip_network

from labctl.host.parsing import ipv4_network
from labctl.model.lab import POD_NETWORK, SERVICE_NETWORK, Lab

NAMES = ("no_proxy", "NO_PROXY")
"""Programs read one or the other, or both; those that read both disagree about which goes first."""
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
"""What programs read for a page without TLS. curl leaves out the second, browsers do not."""
ANY = (*PROXIES, "https_proxy", "HTTPS_PROXY")
"""What programs read for whatever they ask, such as the API server by its address."""
EVERYTHING = "*"
"""Understood only where nothing stands beside it."""
CLUSTER_NAMES = (".svc", ".cluster.local")


def exceptions(lab: Lab) -> tuple[str, ...]:
    """Return what no proxy may be asked for: the lab's networks, and the names of its apps and Services."""
    networks = (lab.network, POD_NETWORK, SERVICE_NETWORK)
    return (*map(str, networks), *(app.hostname for app in lab.apps), *CLUSTER_NAMES)


def without_proxy(lab: Lab, environment: Mapping[str, str], *hostnames: str) -> dict[str, str]:
    """Return what a program's environment needs so that it asks the lab directly; the user's exceptions stay.

    `hostnames` are others than those of the lab's apps.
    """
    users = [word.strip() for name in NAMES for word in environment.get(name, "").split(",") if word.strip()]
    words = [EVERYTHING] if EVERYTHING in users else dict.fromkeys([*users, *exceptions(lab), *hostnames])
    return dict.fromkeys(NAMES, ",".join(words))


def proxy_for(hostname: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable, and its value, by which programs ask a proxy for a page of this host; None where they do not.

    Exceptions are read as curl reads them, which knows the least. Where both variables for them are set, either may count.
    """
    lists = [environment[name] for name in NAMES if environment.get(name)]
    if lists and all(_has_exception(each, hostname) for each in lists):
        return None
    return next(((name, environment[name]) for name in PROXIES if environment.get(name)), None)


def uncovered(lab: Lab, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the lab's network and hostnames that programs ask a proxy for: any program by address, those of HTTP by name."""
    is_set = any(environment.get(name) for name in ANY)
    network = [str(lab.network)] if is_set and not _has_network(lab.network, environment) else []
    return (*network, *(app.hostname for app in lab.apps if proxy_for(app.hostname, environment)))


def proxy_of(scheme: str, hostname: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable, and its value, that names a proxy for labctl's own request; None if there is none.

    The lower-case variable goes before the upper-case one. Nothing of this machine itself is asked of a proxy.
    """
    if hostname == "localhost" or _is_in(hostname, "127.0.0.0/8") or _is_in(hostname, "::1"):
        return None
    users = next((environment[name] for name in NAMES if environment.get(name)), "")
    if _has_exception(users, hostname) or any(_is_in(hostname, word.strip()) for word in users.split(",")):
        return None
    names = (word for name in (f"{scheme}_proxy", "all_proxy") for word in (name, name.upper()))
    return next(((name, environment[name]) for name in names if environment.get(name)), None)


def _has_network(network: IPv4Network, environment: Mapping[str, str]) -> bool:
    """Return whether the exceptions have a whole network, as Go reads them; where both variables are set, either may count."""
    lists = [environment[name] for name in NAMES if environment.get(name)]
    return bool(lists) and all(
        each.strip() == EVERYTHING
        or any(network.subnet_of(known) for word in each.split(",") if (known := ipv4_network(word.strip())))
        for each in lists
    )


def _is_in(hostname: str, network: str) -> bool:
    """Return whether a host is written as an address of the network."""
    try:
        return ip_address(hostname.strip("[]")) in ip_network(network, strict=False)
    except ValueError:
        return False


def _has_exception(exceptions: str, hostname: str) -> bool:
    """Return whether a comma-separated list has the name or a domain of it; networks match addresses only."""
    if exceptions.strip() == EVERYTHING:
        return True
    words = (word.strip().lower().removeprefix(".").removesuffix(".") for word in exceptions.split(","))
    return any(f".{hostname}".endswith(f".{word}") for word in words if word)
