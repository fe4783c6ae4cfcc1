"""Check of the registries that a bundle is built from: those for which this machine's own tools are configured."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from labctl.bundle.build.index_settings import index_settings
from labctl.context import Context
from labctl.doctor.finding import Finding, not_relevant, ok, warning
from labctl.host.machine import Machine

MODULE_PROXY = "https://proxy.golang.org"
"""The default module proxy of the Go that a build fetches."""


def check_registries(_context: Context, machine: Machine) -> Finding:
    """Check that one registry of each kind answers within a few seconds."""
    urls = {kind: url for kind, ask in _REGISTRIES.items() if (url := ask(machine))}
    if not urls:
        return not_relevant("go, pip and apt are configured without a registry")
    silent = {kind: reason for kind, url in urls.items() if (reason := machine.unreachable(url))}
    # Not the URL itself: it may hold a password.
    hosts = ", ".join(f"{kind} at {urlsplit(url).hostname}" for kind, url in urls.items() if kind not in silent)
    if not silent:
        return ok(f"answering: {hosts}")
    return warning(
        "; ".join(f"{kind} at {urlsplit(urls[kind]).hostname} does not answer: {why}" for kind, why in silent.items()),
        "Make sure that this machine reaches them, or boot from a bundle made elsewhere: `labctl up --bundle DIR`.",
    )


def _go(machine: Machine) -> str:
    result = machine.run("go", "env", "GOPROXY")
    return _first_url(result.out if result is not None else machine.environment.get("GOPROXY", MODULE_PROXY))


def _pip(machine: Machine) -> str:
    indexes = index_settings(machine.environment, machine.read).indexes
    return _first_url(indexes[0]) if indexes else ""


def _apt(machine: Machine) -> str:
    result = machine.run("apt-get", "indextargets", "--format", "$(SITE)")
    return _first_url(result.out) if result is not None else ""


def _first_url(text: str) -> str:
    match = re.search(r"https?://[^\s,|]+", text)
    return match[0] if match else ""


_REGISTRIES: dict[str, Callable[[Machine], str]] = {
    "Go modules": _go,
    "Python packages": _pip,
    "Debian packages": _apt,
}
"""The kinds of packages that a bundle is built from, each with the function that returns its registry."""
