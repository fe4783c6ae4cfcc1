"""Proxy variables: programs must reach the lab directly, because a proxy cannot reach it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, ip_address, ip_network

from labctl.host.parsing import ipv4_network
from labctl.model.lab import POD_NETWORK, SERVICE_NETWORK, Lab

NAMES = ("no_proxy", "NO_PROXY")
"""Programs read one or the other, or both; those that read both disagree about which takes precedence."""
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
"""The variables for requests without TLS. curl ignores the second, browsers do not."""
ANY = (*PROXIES, "https_proxy", "HTTPS_PROXY")
"""The variables for all requests, such as those to the API server's address."""
EVERYTHING = "*"
"""Valid only as the sole entry."""
CLUSTER_NAMES = (".svc", ".cluster.local")


def exceptions(lab: Lab) -> tuple[str, ...]:
    """Return what programs must reach without a proxy: the lab's networks, and the names of its apps and Services."""
    networks = (lab.network, POD_NETWORK, SERVICE_NETWORK)
    return (*map(str, networks), *(app.hostname for app in lab.apps), *CLUSTER_NAMES)


def without_proxy(lab: Lab, environment: Mapping[str, str], *hostnames: str) -> dict[str, str]:
    """Return the variables with which a program reaches the lab directly; the user's exceptions stay.

    `hostnames` are exceptions in addition to those of the lab's apps.
    """
    users = [word.strip() for name in NAMES for word in environment.get(name, "").split(",") if word.strip()]
    words = [EVERYTHING] if EVERYTHING in users else dict.fromkeys([*users, *exceptions(lab), *hostnames])
    return dict.fromkeys(NAMES, ",".join(words))


def proxy_for(hostname: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable, and its value, that sends HTTP requests for this host to a proxy; None if there is none.

    Read exceptions like curl, which supports the fewest forms. If both variables for them are set, either may apply, so
    both must have the host.
    """
    lists = [environment[name] for name in NAMES if environment.get(name)]
    if lists and all(_has_exception(each, hostname) for each in lists):
        return None
    return next(((name, environment[name]) for name in PROXIES if environment.get(name)), None)


def not_exempted(lab: Lab, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the lab's network, if a proxy would get requests to it, and the hostnames that an HTTP proxy would get."""
    is_set = any(environment.get(name) for name in ANY)
    network = [str(lab.network)] if is_set and not _has_network(lab.network, environment) else []
    return (*network, *(app.hostname for app in lab.apps if proxy_for(app.hostname, environment)))


def proxy_of(scheme: str, hostname: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable, and its value, that names a proxy for a request of labctl itself; None if there is none.

    The lower-case variable takes precedence over the upper-case one. Requests to this machine itself use no proxy.
    """
    if hostname == "localhost" or _is_in(hostname, "127.0.0.0/8") or _is_in(hostname, "::1"):
        return None
    users = next((environment[name] for name in NAMES if environment.get(name)), "")
    if _has_exception(users, hostname) or any(_is_in(hostname, word.strip()) for word in users.split(",")):
        return None
    names = (word for name in (f"{scheme}_proxy", "all_proxy") for word in (name, name.upper()))
    return next(((name, environment[name]) for name in names if environment.get(name)), None)


def _has_network(network: IPv4Network, environment: Mapping[str, str]) -> bool:
    """Return whether the exceptions cover a whole network, as Go reads them; if both variables are set, both must."""
    lists = [environment[name] for name in NAMES if environment.get(name)]
    return bool(lists) and all(
        each.strip() == EVERYTHING
        or any(network.subnet_of(known) for word in each.split(",") if (known := ipv4_network(word.strip())))
        for each in lists
    )


def _is_in(hostname: str, network: str) -> bool:
    """Return whether the hostname is an address in the network."""
    try:
        return ip_address(hostname.strip("[]")) in ip_network(network, strict=False)
    except ValueError:
        return False


def _has_exception(exceptions: str, hostname: str) -> bool:
    """Return whether a comma-separated list has the name or a parent domain; networks match addresses only."""
    if exceptions.strip() == EVERYTHING:
        return True
    words = (word.strip().lower().removeprefix(".").removesuffix(".") for word in exceptions.split(","))
    return any(f".{hostname}".endswith(f".{word}") for word in words if word)
