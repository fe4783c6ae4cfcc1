"""The environment of each program that labctl runs for its own purposes.

A program gets only the variables that it needs from the user's environment: VAGRANT_CWD, DOCKER_TLS_VERIFY, RUBYOPT or
GOFLAGS would point it at something other than the lab. Programs that the user runs through labctl (`exec`, `ssh`, a
browser, a demo's commands) keep the user's environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

DOCKER_HOST = "DOCKER_HOST"
COMMON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
PROXIES = tuple(name for word in ("http", "https", "all", "no") for name in (f"{word}_proxy", f"{word}_proxy".upper()))
_ENGINE = (DOCKER_HOST, "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
"""The variables that select a Docker Engine, and how to reach it."""
_VIRTUALBOX = ("VBOX_USER_HOME", "XDG_CONFIG_HOME")
_GO = tuple(f"GO{name}" for name in ("PROXY", "PRIVATE", "NOPROXY", "INSECURE", "SUMDB", "NOSUMDB", "AUTH"))
TOOLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vagrant": (*_ENGINE, "VAGRANT_HOME", *_VIRTUALBOX),
        "docker": _ENGINE,
        "go": (*_GO, "GOPATH", "GOMODCACHE", "GOCACHE", "GOTMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", *PROXIES),
        "apt-get": ("APT_CONFIG", *PROXIES),
        "apt-cache": ("APT_CONFIG",),
        "mmdebstrap": ("APT_CONFIG", *PROXIES),
        "virsh": ("LIBVIRT_DEFAULT_URI", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
        "VBoxManage": _VIRTUALBOX,
        "sudo": ("SUDO_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY", "TERM"),
    }
)
"""The variables that each program gets in addition to COMMON."""
FIXED: Mapping[str, str] = MappingProxyType({"LC_ALL": "C.UTF-8"})
"""Messages in English: known failures are recognised by them."""


def environment(program: str, ours: Mapping[str, str], users: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the complete environment of a program: the user's variables that it may have, overridden by `ours`.

    If `ours` names an Engine, it gets none of the user's variables about Engines.
    """
    given = {name: users[name] for name in (*COMMON, *TOOLS.get(program, ())) if name in users}
    if DOCKER_HOST in ours:
        given = {name: value for name, value in given.items() if name not in _ENGINE}
    return {**given, **FIXED, **ours}


def forget_engine(environment: dict[str, str] | os._Environ[str]) -> None:
    """Remove all variables that select a Docker Engine, or how to reach it."""
    for name in _ENGINE:
        environment.pop(name, None)
