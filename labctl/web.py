"""HTTP by name, as a browser asks: through the system's resolver, and through no proxy."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address

ANSWER_SECONDS = 2.0
"""Longer than any lab takes; a first packet that found nobody is sent again sooner by asking anew."""
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


def get(hostname: str, address: IPv4Address | None = None) -> Answer:
    """GET / of `hostname`, at this address, else at the one that the system's resolver has for it."""
    connection = http.client.HTTPConnection(str(address or hostname), 80, timeout=ANSWER_SECONDS)
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
