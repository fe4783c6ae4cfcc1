"""Connection pools, directly to servers or through the user's proxies."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationValueError, NameResolutionError, NewConnectionError
from urllib3.util import parse_url

from labctl.host.proxies import proxy_of
from labctl.host.redaction import without_login
from labctl.model.errors import UsageError
from labctl.transfer import trust
from labctl.transfer.dial import dial

CONNECT_SECONDS = 5.0
"""Time limit for a connection to a server, with the lookup of its name and the TLS handshake."""
LEAST_SECONDS = 0.5
"""The shortest read timeout of a TLS handshake, however long the TCP connection took."""
READ_SECONDS = 20.0
"""The read timeout of a response."""
CONNECTIONS = 8


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    def connect(self) -> None:
        """Connect within the connect timeout; then allow the longer read timeout, for sending too."""
        super().connect()
        self.sock.settimeout(READ_SECONDS)


class _SecureConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS: `super().connect()` is HTTPSConnection's here."""

    def send(self, data: Any) -> None:  # noqa: ANN401 - the signature of http.client
        """Send; raise BrokenPipeError if the server closed the connection: urllib3 then reads its early response."""
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Pools:
    """Connection pools by scheme and proxy, created when first used."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._managers: dict[tuple[str, tuple[str, str] | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def proxy(self, url: str) -> tuple[str, str] | None:
        """Return the variable and the value that name the proxy for this URL; None if there is none."""
        parts = urlsplit(url)
        return proxy_of(parts.scheme, parts.hostname or "", self._environment)

    def manager(self, url: str) -> urllib3.PoolManager:
        """Return the pool manager for this URL. Raises LabError."""
        key = (urlsplit(url).scheme, self.proxy(url))
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._create(*key)
            return self._managers[key]

    def close(self) -> None:
        """Close every connection that is not in use."""
        for manager in self._managers.values():
            manager.clear()

    def _create(self, scheme: str, proxy: tuple[str, str] | None) -> urllib3.PoolManager:
        proxy_url = _proxy_url(*proxy) if proxy else None
        uses_tls = "https" in {scheme, proxy_url.scheme if proxy_url else scheme}
        certificates = trust.context(self._environment) if uses_tls else None  # takes some milliseconds
        manager = (
            _proxy_manager(proxy_url, certificates)
            if proxy_url
            else urllib3.PoolManager(maxsize=CONNECTIONS, ssl_context=certificates)
        )
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
        return manager


def _proxy_url(variable: str, value: str) -> SplitResult:
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        is_usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        parse_url(_without_login(url))  # urllib3 must accept it too
    except (ValueError, LocationValueError):
        is_usable = False
    if not is_usable:
        raise UsageError(
            f"{variable} names the proxy {without_login(value)}, which labctl cannot use",
            id="proxy-unusable",
            hint=f"Set {variable} to an http or https URL, or exclude the host with NO_PROXY.",
        )
    return url


def _without_login(url: SplitResult) -> str:
    return url._replace(netloc=url.netloc.rpartition("@")[2], path="").geturl()


def _proxy_manager(url: SplitResult, certificates: ssl.SSLContext | None) -> urllib3.ProxyManager:
    user = f"{unquote(url.username)}:{unquote(url.password or '')}" if url.username else None
    return urllib3.ProxyManager(
        _without_login(url),
        proxy_headers=urllib3.make_headers(proxy_basic_auth=user) if user else None,
        maxsize=CONNECTIONS,
        ssl_context=certificates,
        proxy_ssl_context=certificates,
    )


def _connect(connection: HTTPConnection) -> socket.socket:
    """Connect to the host, or to its proxy, within the connect timeout; raise urllib3's own exceptions."""
    seconds = connection.timeout if isinstance(connection.timeout, int | float) else CONNECT_SECONDS
    began = time.monotonic()
    try:
        dialled = dial(connection.host, connection.port, seconds)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, str(error)) from error
    except OSError as error:
        raise NewConnectionError(connection, error.strerror or str(error)) from error
    dialled.settimeout(max(began + seconds - time.monotonic(), LEAST_SECONDS))  # for the TLS handshake
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return dialled
