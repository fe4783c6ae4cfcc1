"""The package indexes that the user configured for pip and uv, and how to reach them."""

from __future__ import annotations

import configparser
import os
import re
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"
SECTIONS = ("global", "install", "download")
"""The sections of pip's configuration files, in ascending order of precedence."""

Read = Callable[[Path], str | None]


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Where to look for wheels, in this order, and how. Proxy variables apply without being listed here."""

    links: tuple[str, ...]
    """Pages and folders that list files."""
    indexes: tuple[str, ...]
    certificates: str = ""
    client_certificate: str = ""
    proxy: str = ""
    trusted_hosts: tuple[str, ...] = ()

    def places(self, distribution: str) -> tuple[str, ...]:
        """Return every page and folder that may list a file of this distribution."""
        name = re.sub(r"[-_.]+", "-", distribution).lower()
        return (*self.links, *(f"{index.rstrip('/')}/{name}/" for index in self.indexes))

    def verification(self, host: str) -> str | bool:
        """Return the file or folder of certificates to verify a server with, or whether to verify it at all.

        `host` may have a port. The default is the system's certificate store, as for pip.
        """
        if {host, host.partition(":")[0]} & set(self.trusted_hosts):
            return False
        system = ssl.get_default_verify_paths()
        return self.certificates or system.cafile or system.capath or True


def index_settings(environment: Mapping[str, str], read: Read) -> IndexSettings:
    """Return the settings in the environment and in pip's configuration files. Variables take precedence over files."""
    configured = _configuration(environment, read)

    def pip(name: str) -> str:
        return environment.get(f"PIP_{name.replace('-', '_').upper()}") or configured.get(name, "")

    def uv(*names: str) -> str:
        return " ".join(environment.get(f"UV_{name}", "") for name in names)

    main = environment.get("PIP_INDEX_URL") or uv("DEFAULT_INDEX", "INDEX_URL") or ""
    main = main.strip() or configured.get("index-url", "") or DEFAULT_INDEX
    bundles = (environment.get(name, "") for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return IndexSettings(
        links=_words(pip("find-links"), environment.get("UV_FIND_LINKS", "").replace(",", " ")),
        indexes=()
        if _is_set(pip("no-index"))
        else _words(main, pip("extra-index-url"), uv("EXTRA_INDEX_URL", "INDEX")),
        certificates=next(filter(None, (pip("cert"), *bundles)), ""),
        client_certificate=pip("client-cert"),
        proxy=pip("proxy"),
        trusted_hosts=_words(pip("trusted-host"), uv("INSECURE_HOST")),
    )


def _configuration(environment: Mapping[str, str], read: Read) -> dict[str, str]:
    """Return the values of pip's configuration files, by option."""
    values: dict[str, str] = {}
    for path in _files(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(read(path) or "")
        except configparser.Error:
            continue  # pip reports what is wrong with it
        for section in SECTIONS:
            if parser.has_section(section):
                values |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return values


def _files(environment: Mapping[str, str]) -> list[Path]:
    """Return pip's configuration files, in ascending order of precedence."""
    own = environment.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return []
    home = Path(environment.get("HOME", "/"))
    folders = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    return [
        *(Path(folder, "pip/pip.conf") for folder in reversed(folders) if folder),
        Path("/etc/pip.conf"),
        *([] if own else [home / ".pip/pip.conf"]),
        *([] if own else [Path(environment.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf")]),
        Path(sys.prefix, "pip.conf"),
        *([Path(own)] if own else []),
    ]


def _words(*texts: str) -> tuple[str, ...]:
    """Return the URLs in the texts without duplicates; uv allows `NAME=` before a URL."""
    return tuple(dict.fromkeys(re.sub(r"^[\w.-]+=(?=\w+:)", "", word) for text in texts for word in text.split()))


def _is_set(value: str) -> bool:
    return value.casefold() in {"1", "true", "yes", "y", "on", "t"}
