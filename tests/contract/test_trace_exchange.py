"""Requests over real sockets to misbehaving servers, and the reports of head, body and connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from labctl.model.limits import NORMAL, Limits
from labctl.trace.probes import exchange
from labctl.trace.probes.exchange import Connection, Exchange, fetch

HOST, HERE = "my-app.local", IPv4Address("127.0.0.1")
HEAD = b"HTTP/1.1 200 OK\r\nX-Pod-Name: my-app-1\r\n"
LENGTH = HEAD + b"Content-Length: 1000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = HEAD + b"Content-Type: text/event-stream\r\nConnection: close\r\n\r\n"
AT_ONCE = b"\x01\0\0\0\0\0\0\0"
"""SO_LINGER with a timeout of 0: closing resets the connection."""
Act = Callable[[socket.socket], None]
QUICK = replace(NORMAL, trace_stall=0.3, trace_body=0.2)


@contextmanager
def serving(*acts: Act) -> Iterator[int]:
    """Serve each connection with the next act, and further ones with the last; yield the port."""
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            for number in range(100):
                while not stopped.is_set():
                    try:
                        connection, _ = listener.accept()
                        break
                    except TimeoutError:
                        continue
                else:
                    return
                with connection:
                    connection.settimeout(5)
                    acts[min(number, len(acts) - 1)](connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopped.set()
            thread.join()


def responds_with(*parts: bytes, then: Act = lambda _connection: None) -> Act:
    """Return an act that reads a request, sends these parts, and calls `then`."""

    def act(connection: socket.socket) -> None:
        connection.recv(4096)
        for part in parts:
            connection.sendall(part)
        then(connection)

    return act


def stalls(connection: socket.socket) -> None:
    """Send nothing more until the client disconnects."""
    connection.recv(1)


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)


def flows(connection: socket.socket) -> None:
    """Send more chunks until the client disconnects."""
    try:
        while True:
            connection.sendall(b"4\r\nmore\r\n")
            time.sleep(0.01)
    except OSError:
        return


def fetch_from(act: Act, seconds: float = 2.0, limits: Limits = QUICK) -> Exchange:
    with serving(act) as port:
        return fetch(HOST, HERE, "/", port, seconds=seconds, limits=limits)


@pytest.mark.parametrize(
    ("act", "state", "received", "expected"),
    [
        (responds_with(LENGTH, b"x" * 1000), "whole", 1000, 1000),
        (responds_with(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), "whole", 5, None),
        (responds_with(HEAD + b"\r\n", b"to the end"), "whole", 10, None),
        (responds_with(LENGTH, b"x" * 10, then=stalls), "stopped", 10, 1000),
        (responds_with(LENGTH, then=stalls), "stopped", 0, 1000),
        (responds_with(CHUNKED, b"5\r\nhello\r\n", then=stalls), "stopped", 5, None),
        (responds_with(LENGTH, b"x" * 10), "cut off", 10, 1000),
        (responds_with(CHUNKED, b"5\r\nhel"), "cut off", 3, None),
        (responds_with(CHUNKED, b"no number\r\n"), "cut off", 0, None),
        (responds_with(EVENTS, b"data: 1\n\n", then=stalls), "flows", 9, None),
    ],
)
def test_the_state_of_a_body_says_how_it_ended(act: Act, state: str, received: int, expected: int | None) -> None:
    result = fetch_from(act)

    assert (result.status, result.pod) == (200, "my-app-1")
    assert (result.body.state, result.body.received, result.body.expected) == (state, received, expected)
    assert result.body.is_served is (state in {"whole", "flows"})
    assert bool(result.body.failure) is not result.body.is_served


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(b"", ("", False)), (b"Location: /a \r\nSet-Cookie: id=1\r\nSet-Cookie: b=2\r\n", ("/a", True))],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_head_shows_a_redirect_and_cookies(version: bytes, lines: bytes, expected: tuple[str, bool]) -> None:
    head = b"HTTP/" + version + b" 302 Found\r\n" + lines
    with serving(responds_with(head + b"Connection: close\r\n\r\nhello")) as port:
        got = fetch(HOST, HERE, port=port)

    assert (got.status, got.body.state, got.body.received) == (302, "whole", 5)
    assert (got.location, got.sets_cookie) == expected


def test_a_body_that_ends_with_a_reset_is_cut_off() -> None:
    assert fetch_from(responds_with(LENGTH, b"x" * 10, then=resets)).body.state == "cut off"


def test_an_endless_body_flows_and_is_read_only_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    assert fetch_from(responds_with(CHUNKED, then=flows)).body.state == "flows"
    assert time.monotonic() - began < 2

    monkeypatch.setattr(exchange, "BODY_BYTES", 64)
    assert (
        64
        <= fetch_from(responds_with(CHUNKED, then=flows), limits=replace(QUICK, trace_body=60)).body.received
        < 10_000
    )


@pytest.mark.parametrize(
    ("act", "is_silent"),
    [
        (responds_with(then=stalls), True),
        (responds_with(b"HTTP/1.1 200 OK\r\nX-Slow: ", then=stalls), True),
        (responds_with(), False),
        (responds_with(then=resets), False),
        (responds_with(b"SSH-2.0-OpenSSH_9\r\n"), False),
    ],
    ids=["silence", "half a head", "an empty answer", "a reset", "not HTTP"],
)
def test_a_missing_head_is_silence_or_a_failure(act: Act, is_silent: bool) -> None:  # noqa: FBT001 - a parameter of the test
    result = fetch_from(act, seconds=0.3)

    assert (result.status, result.is_connected, result.is_silent) == (None, True, is_silent)
    assert result.failure
    assert result.seconds["first_byte"] is None


def test_a_head_that_arrives_slowly_does_not_extend_the_time_limit() -> None:
    def drips(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.05)
        except OSError:
            return

    began = time.monotonic()
    assert fetch_from(responds_with(HEAD, then=drips), seconds=0.3).is_silent
    assert time.monotonic() - began < 1


def test_a_closed_port_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = fetch(HOST, HERE, "/", port)

    assert (result.status, result.is_connected, result.is_silent) == (None, False, False)
    assert "refused" in result.failure


def test_requests_share_a_connection_and_each_has_its_mark() -> None:
    requests: list[bytes] = []

    def serves(connection: socket.socket) -> None:
        while request := connection.recv(4096):
            requests.append(request)
            connection.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")

    with serving(serves) as port, Connection(HOST, HERE, port) as line:
        exchanges = [line.ask("/a b?c=\u00e9") for _ in range(3)]

    assert [each.status for each in exchanges] == [200, 200, 200]
    assert len({each.client for each in exchanges}) == 1
    assert [each.mark.encode() in request for each, request in zip(exchanges, requests, strict=True)] == [True] * 3
    assert requests[0].startswith(b"GET /a%20b?c=%C3%A9 HTTP/1.1\r\nHost: my-app.local:")


@pytest.mark.parametrize(
    "responds",
    [
        responds_with(HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n"),
        responds_with(HEAD + b"Content-Length: 0\r\n\r\n"),
    ],
    ids=["said", "unsaid"],
)
def test_a_connection_closed_by_the_server_is_reopened(responds: Act) -> None:
    with serving(responds) as port, Connection(HOST, HERE, port) as line:
        first = line.ask("/")
        time.sleep(0.05)  # let the end of the connection arrive
        second = line.ask("/")

    assert (first.status, second.status) == (200, 200)
    assert first.client != second.client
