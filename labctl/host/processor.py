"""Which processor this machine has."""

from __future__ import annotations

import platform

_NAMES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture() -> str:
    """Return the machine's architecture, as container images and Go name it where they have another name for it."""
    machine = platform.machine()
    return _NAMES.get(machine, machine)
