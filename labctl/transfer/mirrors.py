"""The source of a host's content: the host itself, or the mirror that the user configured for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from labctl.model.errors import UsageError

ENVIRONMENT = "LABCTL_MIRRORS"
CONFIG_KEY = "mirrors"
DOCKER_HUB = "docker.io"
_ELSEWHERE = {DOCKER_HUB: "registry-1.docker.io"}
"""Hosts whose registry has another hostname."""
_API = "v2"


@dataclass(frozen=True, slots=True)
class Mirrors:
    """A table of hosts and the base URLs of their mirrors."""

    table: Mapping[str, str] = field(default_factory=dict)

    def base(self, host: str) -> str:
        """Return the URL that replaces `https://HOST`, without a trailing slash."""
        return self.table.get(host, f"https://{_ELSEWHERE.get(host, host)}")

    def registry(self, host: str, repository: str) -> str:
        """Return the base URL of a repository in a registry.

        The base URL's path goes between the API's `v2` and the repository's name, unless it contains `v2` itself.
        """
        base = urlsplit(self.base(host))
        path = base.path.strip("/")
        if _API not in path.split("/"):
            path = f"{_API}/{path}"
        return base._replace(path="/".join(filter(None, ("", *path.split("/"), repository)))).geturl()


def parse_mirrors(config_table: Mapping[str, str], environment_text: str) -> Mirrors:
    """Return the mirrors of labctl.yaml and of `LABCTL_MIRRORS` (`HOST=URL,HOST=URL`), which takes precedence.

    Raises UsageError `mirrors-invalid`.
    """
    entries = [(CONFIG_KEY, host, url) for host, url in config_table.items()]
    entries += [(ENVIRONMENT, *entry) for entry in _entries(environment_text)]
    return Mirrors({host.strip().lower(): _validated(source, host, url) for source, host, url in entries})


def allows_plain_http(host: str) -> bool:
    """Return whether a host may be used without TLS: localhost, and literal loopback and private addresses."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or (address.is_private and not (address.is_unspecified or address.is_link_local))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for entry in text.split(","):
        host, equals, url = entry.partition("=")
        if equals:
            yield host, url
        elif entry.strip():
            raise _invalid(ENVIRONMENT, entry.strip(), "it is not of the form HOST=URL")


def _validated(source: str, host: str, text: str) -> str:
    """Validate an entry; return its base URL."""
    entry = f"{host.strip()}={text.strip()}"
    if not host.strip() or "/" in host:
        raise _invalid(source, entry, "the name before the mirror's URL must be a host, such as registry.k8s.io")
    try:
        url = urlsplit(text.strip().rstrip("/"))
        port = url.port
    except ValueError as error:
        raise _invalid(source, host.strip(), f"its URL cannot be read: {error}") from error
    if url.username is not None or url.password is not None:
        raise _invalid(source, host.strip(), "its URL has a user or a password; store them with `docker login` instead")
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0 or url.query or url.fragment:
        raise _invalid(source, entry, "its URL must be https://HOST[:PORT][/PATH], or http:// of a private address")
    if url.scheme == "http" and not allows_plain_http(url.hostname):
        raise _invalid(source, entry, "plain HTTP is accepted only for localhost and literal private addresses")
    return url.geturl()


def _invalid(source: str, entry: str, problem: str) -> UsageError:
    return UsageError(
        f"{source}: {entry}: {problem}",
        id="mirrors-invalid",
        hint=f"Write {ENVIRONMENT}=registry.k8s.io=https://mirror.example/k8s,docker.io=http://10.0.0.5:5000, or the same as a table in labctl.yaml.",
    )
