"""Make a request as a browser does, and record the head, the body and the timings."""

from __future__ import annotations

import http.client
import io
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, cast
from urllib.parse import quote

from labctl.host.http_probe import HTTP, HTTPS, POD_HEADER, Address
from labctl.model.limits import NORMAL, Limits

BODY_BYTES = 4 << 20
"""The number of bytes after which a body is not read further, although more arrives."""
CHUNK_BYTES = 1 << 16
BEGINNING_BYTES = 120
WHOLE, FLOWS, STOPPED, CUT = "whole", "flows", "stopped", "cut off"
ENDED_STATES = frozenset({WHOLE, FLOWS})
EVENTS = "text/event-stream"
"""The content type of streams that may be silent for a long time without being broken."""
URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


class SilentError(TimeoutError):
    """Nothing arrived in time."""


@dataclass(frozen=True, slots=True)
class Body:
    """The received part of a body, and why the rest did not arrive."""

    state: str = WHOLE
    """`whole`; `flows` if it is long and still arriving; `stopped` or `cut off` if the rest did not arrive."""
    received: int = 0
    expected: int | None = None
    """The length in bytes, if the head states it."""
    failure: str = ""
    beginning: bytes = b""

    @property
    def is_served(self) -> bool:
        """Return whether a browser could show it."""
        return self.state in ENDED_STATES


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response. Seconds are per part; None for a part that was not reached."""

    status: int | None
    pod: str | None
    mark: str
    """The request's unique User-Agent, which a server's log shows."""
    failure: str
    client: str
    """The client's address and port."""
    seconds: Mapping[str, float | None]
    location: str = ""
    """The URL that the response redirects to."""
    sets_cookie: bool = False
    """Whether the response sets a cookie, with which a browser may get another response."""
    body: Body = Body()
    is_silent: bool = False
    """Whether a connection was made, but no response came in time."""

    @property
    def is_connected(self) -> bool:
        """Return whether the connection was accepted."""
        return self.seconds.get("connect") is not None


class Connection:
    """A connection for consecutive requests, so that one pod of the ingress controller handles them all.

    The connection is reopened if the other side has closed it. Certificates are not verified.
    """

    def __init__(
        self, hostname: str, address: Address, port: int = HTTP, *, tls: bool = False, limits: Limits = NORMAL
    ) -> None:
        self._limits = limits
        self._hostname, self._address, self._port, self._tls = hostname, address, port, tls
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, path: str = "/", seconds: float = NORMAL.http_answer) -> Exchange:
        """GET a path and read the response. The head must arrive within `seconds`."""
        is_old = self._socket is not None
        exchange = self._ask(path, seconds)
        if is_old and exchange.status is None and not exchange.is_silent:  # the other side had closed the connection
            return self._ask(path, seconds)
        return exchange

    def _ask(self, path: str, seconds: float) -> Exchange:
        mark, end = f"labctl-trace-{secrets.token_hex(4)}", time.monotonic() + seconds
        times: dict[str, float | None] = {"connect": None, "first_byte": None, "body": None}
        exchange = Exchange(None, None, mark, "", "", times)
        began = time.monotonic()
        try:
            sock = self._connected(end)
            exchange = replace(exchange, client="{}:{}".format(*sock.getsockname()))
            times["connect"] = (connected := time.monotonic()) - began
            sock.sendall(self._request(path, mark))
            answer = _head(sock, end)
            times["first_byte"] = (came := time.monotonic()) - connected
            exchange = replace(
                exchange,
                status=answer.status,
                pod=answer.getheader(POD_HEADER),
                location=(answer.getheader("Location") or "").strip(),
                sets_cookie=answer.getheader("Set-Cookie") is not None,
                body=_body(answer, sock, self._limits),
            )
            times["body"] = time.monotonic() - came
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            is_silent = isinstance(error, TimeoutError) and times["connect"] is not None
            return replace(exchange, failure=str(error) or type(error).__name__, is_silent=is_silent)
        if answer.will_close or exchange.body.state != WHOLE:
            self.close()
        return exchange

    def _connected(self, end: float) -> socket.socket:
        if self._socket is None:
            left = _left(end)
            self._socket = socket.create_connection((str(self._address), self._port), timeout=left)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                self._socket = _anyone().wrap_socket(self._socket, server_hostname=self._hostname)
        self._socket.settimeout(_left(end))
        return self._socket

    def _request(self, path: str, mark: str) -> bytes:
        default = HTTPS if self._tls else HTTP
        host = self._hostname if self._port == default else f"{self._hostname}:{self._port}"
        lines = (
            f"GET {quote(path, safe=URL_CHARACTERS)} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {mark}",
            "Accept: */*",
        )
        return "\r\n".join((*lines, "", "")).encode("ascii")


def fetch(
    hostname: str,
    address: Address,
    path: str = "/",
    port: int = HTTP,
    *,
    tls: bool = False,
    seconds: float = NORMAL.http_answer,
    limits: Limits = NORMAL,
) -> Exchange:
    """GET a path of a host at an address, on a new connection."""
    with Connection(hostname, address, port, tls=tls, limits=limits) as line:
        return line.ask(path, seconds)


class _Stream(io.RawIOBase):
    """A socket that is read until a deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.end = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(_left(self.end))
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Implement what http.client expects of a socket."""
        return io.BufferedReader(self)


class _Answer(http.client.HTTPResponse):
    """A response that is read with a time limit for each part."""

    def __init__(self, sock: socket.socket) -> None:
        self.stream = _Stream(sock)
        super().__init__(cast("socket.socket", self.stream), method="GET")


def _left(end: float) -> float:
    """Return the time left. Raises SilentError if there is none."""
    if (left := end - time.monotonic()) <= 0:
        raise SilentError("timed out")
    return left


def _head(sock: socket.socket, end: float) -> _Answer:
    answer = _Answer(sock)
    answer.stream.end = end
    answer.begin()
    return answer


def _body(answer: _Answer, sock: socket.socket, limits: Limits) -> Body:
    """Read a body until its end, until it stops, or until it is long enough to count as `flows`."""
    expected, received, beginning = answer.length, 0, b""
    end = time.monotonic() + limits.trace_body
    try:
        while True:
            answer.stream.end = time.monotonic() + limits.trace_stall
            chunk = answer.read1(CHUNK_BYTES)
            received += len(chunk)
            beginning = beginning or chunk[:BEGINNING_BYTES]
            if not chunk:
                break
            if received >= BODY_BYTES or time.monotonic() >= end:
                return Body(FLOWS, received, expected, "", beginning)
    except TimeoutError:
        if (answer.getheader("Content-Type") or "").startswith(EVENTS):
            return Body(FLOWS, received, expected, "", beginning)
        return Body(STOPPED, received, expected, f"nothing arrived for {limits.trace_stall} s", beginning)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Body(CUT, received, expected, str(error) or type(error).__name__, beginning)
    finally:
        sock.settimeout(None)
    if expected is not None and received < expected:
        return Body(CUT, received, expected, "the connection ended", beginning)
    return Body(WHOLE, received, expected, "", beginning)


def _anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
