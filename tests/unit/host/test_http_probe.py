"""HTTP by name: the request, and the responses that count as good."""

from __future__ import annotations

import http.client
import socket

import pytest
from fakes import lab
from golden_files import Golden

from labctl.host.http_probe import ProbeResult, get, get_within
from labctl.model.limits import NORMAL

OUTSIDE = f"which is outside the lab's pool {lab().pool}"


class FakeConnection:
    """A fake connection that records its target and its headers, and responds or fails."""

    opened: list[FakeConnection]
    status = 200
    failure: Exception | None = None

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.target = (host, port)
        self.timeout = timeout
        self.headers: dict[str, str] = {}
        self.closed = False
        self.opened.append(self)

    def request(self, method: str, path: str, headers: dict[str, str]) -> None:
        assert (method, path) == ("GET", "/")
        self.headers = headers
        if self.failure:
            raise self.failure

    def getresponse(self) -> FakeConnection:
        return self

    def getheader(self, name: str) -> str | None:
        return {"X-Pod-Name": "my-app-1"}.get(name)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> type[FakeConnection]:
    monkeypatch.setattr(http.client, "HTTPConnection", FakeConnection)
    monkeypatch.setattr(FakeConnection, "opened", [], raising=False)
    return FakeConnection


def test_a_request_by_name_reports_the_pod_that_responded(connection: type[FakeConnection]) -> None:
    assert get("my-app.local") == ProbeResult(200, "my-app-1")

    (opened,) = connection.opened
    assert opened.target == ("my-app.local", 80)
    assert opened.timeout == NORMAL.http_answer
    assert opened.closed


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (socket.gaierror(-2, "Name or service not known"), "my-app.local has no address: Name or service not known"),
        (ConnectionRefusedError(111, "Connection refused"), "no answer: [Errno 111] Connection refused"),
        (TimeoutError(), "no answer: TimeoutError"),
        (http.client.RemoteDisconnected("closed"), "no answer: closed"),
    ],
)
def test_a_failed_request_has_a_reason(
    connection: type[FakeConnection], monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    monkeypatch.setattr(connection, "failure", failure)

    response = get("my-app.local")

    assert (response.status, str(response), response.is_good) == (None, message, False)
    assert connection.opened[0].closed


@pytest.mark.parametrize(
    ("status", "good"),
    [(200, True), (301, True), (401, True), (403, True), (404, False), (500, False), (502, False), (503, False)],
)
def test_a_response_is_good_if_the_app_itself_sent_it(status: int, *, good: bool) -> None:
    assert ProbeResult(status).is_good is good


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.168.56.100", ProbeResult(200, "my-app-1")),
        ("127.0.0.1", ProbeResult(None, failure=f"my-app.local resolves to 127.0.0.1, {OUTSIDE}")),
        ("::1", ProbeResult(None, failure=f"my-app.local resolves to ::1, {OUTSIDE}")),
        ("fe80::1%eth0", ProbeResult(None, failure=f"my-app.local resolves to fe80::1, {OUTSIDE}")),
    ],
)
def test_an_address_outside_the_pool_is_not_requested(
    monkeypatch: pytest.MonkeyPatch, connection: type[FakeConnection], address: str, expected: ProbeResult
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [(0, 0, 0, "", (address, 80))])

    assert get_within(lab(), "my-app.local") == expected
    assert [each.target[0] for each in connection.opened] == ([address] if expected.status else [])


def test_a_name_without_an_address_has_a_message(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    response = get_within(lab(), "my-app.local")

    assert response.status is None
    golden(str(response))
