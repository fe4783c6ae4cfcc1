"""HTTP requests like a browser's, without a proxy: to a hostname, or to a given address with that hostname."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from labctl.model.lab import Lab
from labctl.model.limits import NORMAL

Address = IPv4Address | IPv6Address
HTTP, HTTPS = 80, 443
FIRST_FAILURE = 400
NEEDS_LOGIN = (401, 403)
POD_HEADER = "X-Pod-Name"
"""The header in which the bundle's web image names the pod that answered."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a request: a status and the pod that it names, or the reason why there is no response."""

    status: int | None
    pod: str | None = None
    failure: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the app itself answered. An ingress controller that cannot reach it answers 404, 502, 503 or 504."""
        return self.status is not None and (self.status < FIRST_FAILURE or self.status in NEEDS_LOGIN)

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status is not None else self.failure


def get(hostname: str, address: IPv4Address | None = None, seconds: float = NORMAL.http_answer) -> ProbeResult:
    """Send GET / for `hostname` to this address, else to the one that the system's resolver returns."""
    connection = http.client.HTTPConnection(str(address or hostname), HTTP, timeout=seconds)
    try:
        headers = {"Host": hostname, "User-Agent": "labctl", "Connection": "close"}
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        return ProbeResult(response.status, response.getheader(POD_HEADER))
    except socket.gaierror as error:
        return ProbeResult(None, failure=f"{hostname} has no address: {error.strerror}")
    except (OSError, http.client.HTTPException) as error:
        return ProbeResult(None, failure=f"no answer: {str(error) or type(error).__name__}")
    finally:
        connection.close()


def get_within(lab: Lab, hostname: str) -> ProbeResult:
    """Send GET / for `hostname`, which must resolve to an address of the lab's pool; elsewhere another server answers."""
    try:
        entries = socket.getaddrinfo(hostname, HTTP, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        return ProbeResult(None, failure=f"{hostname} has no address: {getattr(error, 'strerror', error)}")
    address = ip_address(str(entries[0][4][0]).partition("%")[0])
    if not isinstance(address, IPv4Address) or address not in lab.pool:
        return ProbeResult(
            None, failure=f"{hostname} resolves to {address}, which is outside the lab's pool {lab.pool}"
        )
    return get(hostname, address, lab.limits.http_answer)
