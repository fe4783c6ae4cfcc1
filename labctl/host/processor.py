"""The processor architecture of this machine."""

from __future__ import annotations

import platform

_NAMES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture() -> str:
    """Return the machine's architecture, by the name that container images and Go use if they have another one."""
    machine = platform.machine()
    return _NAMES.get(machine, machine)
