"""What keeps programs that work with the lab from asking a proxy, which cannot reach it."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.lab import POD_NETWORK, SERVICE_NETWORK, Lab

NAMES = ("no_proxy", "NO_PROXY")
"""Programs read one or the other, or both; those that read both disagree about which goes first."""
EVERYTHING = "*"
"""Understood only where nothing stands beside it."""
CLUSTER_NAMES = (".svc", ".cluster.local")


def exceptions(lab: Lab) -> tuple[str, ...]:
    """Return what no proxy may be asked for: the lab's networks, and the names of its apps and Services."""
    networks = (lab.network, POD_NETWORK, SERVICE_NETWORK)
    return (*map(str, networks), *(app.hostname for app in lab.apps), *CLUSTER_NAMES)


def without_proxy(lab: Lab, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a program's environment needs so that it asks the lab directly; the user's exceptions stay."""
    users = [word.strip() for name in NAMES for word in environment.get(name, "").split(",") if word.strip()]
    words = [EVERYTHING] if EVERYTHING in users else dict.fromkeys([*users, *exceptions(lab)])
    return dict.fromkeys(NAMES, ",".join(words))
