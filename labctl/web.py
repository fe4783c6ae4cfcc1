"""HTTP as a browser asks, through no proxy: by name, or by name at an address."""

from __future__ import annotations

import http.client
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from labctl.lab import AddressPool

Address = IPv4Address | IPv6Address
HTTP, HTTPS = 80, 443
ANSWER_SECONDS = 2.0
"""Longer than a lab takes to answer, and short: polling again is faster than waiting for TCP's SYN retransmission."""
FIRST_FAILURE = 400
NEEDS_LOGIN = (401, 403)
POD_HEADER = "X-Pod-Name"
"""Set by the bundle's web image: which pod answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status and the pod that says it answered; or why nothing came."""

    status: int | None
    pod: str | None = None
    failure: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the app itself answered; an ingress controller without a way to it says 404, 502, 503 or 504."""
        return self.status is not None and (self.status < FIRST_FAILURE or self.status in NEEDS_LOGIN)

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status is not None else self.failure


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came back. Seconds are since the part before; None for a part that was not reached."""

    status: int | None
    pod: str | None
    mark: str
    """What the request bore in its User-Agent, and no other one did: a server's log shows it."""
    failure: str
    client: str
    """The address and port that the answer came to."""
    seconds: Mapping[str, float | None]
    location: str = ""
    """Where the answer redirects to."""


def get(hostname: str, address: IPv4Address | None = None) -> Answer:
    """GET / of `hostname`, at this address, else at the one that the system's resolver has for it."""
    connection = http.client.HTTPConnection(str(address or hostname), HTTP, timeout=ANSWER_SECONDS)
    try:
        headers = {"Host": hostname, "User-Agent": "labctl", "Connection": "close"}
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.getheader(POD_HEADER))
    except socket.gaierror as error:
        return Answer(None, failure=f"{hostname} has no address: {error.strerror}")
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, failure=f"no answer: {str(error) or type(error).__name__}")
    finally:
        connection.close()


def get_within(pool: AddressPool, hostname: str) -> Answer:
    """GET / of `hostname`, which has to stand for an address of the pool: what answers elsewhere is not the lab."""
    try:
        found = socket.getaddrinfo(hostname, HTTP, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        return Answer(None, failure=f"{hostname} has no address: {getattr(error, 'strerror', error)}")
    address = ip_address(str(found[0][4][0]).partition("%")[0])
    if not isinstance(address, IPv4Address) or address not in pool:
        return Answer(None, failure=f"{hostname} stands for {address}, which is outside the lab's pool {pool}")
    return get(hostname, address)


def fetch(
    hostname: str,
    address: Address,
    path: str = "/",
    port: int = HTTP,
    *,
    tls: bool = False,
    seconds: float = ANSWER_SECONDS,
) -> Exchange:
    """GET a path of a host at an address, timed part by part; whom a certificate is for is not looked at.

    Each part, the connection and the answer, may take so many seconds.
    """
    mark = f"labctl-trace-{secrets.token_hex(4)}"
    taken: dict[str, float | None] = {"connect": None, "first_byte": None}
    began, client = time.monotonic(), ""
    connection = http.client.HTTPConnection(hostname, port, timeout=seconds)
    try:
        connection.sock = socket.create_connection((str(address), port), timeout=seconds)
        client = "{}:{}".format(*connection.sock.getsockname())
        connected = time.monotonic()
        taken["connect"] = connected - began
        if tls:
            connection.sock = _anyone().wrap_socket(connection.sock, server_hostname=hostname)
        connection.request("GET", path, headers={"User-Agent": mark, "Connection": "close"})
        answer = connection.getresponse()
        taken["first_byte"] = time.monotonic() - connected
        location = answer.getheader("Location") or ""
        return Exchange(answer.status, answer.getheader(POD_HEADER), mark, "", client, taken, location)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Exchange(None, None, mark, str(error) or type(error).__name__, client, taken)
    finally:
        connection.close()


def _anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
