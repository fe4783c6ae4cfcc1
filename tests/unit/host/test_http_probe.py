"""HTTP by name: the request, and which responses count as answers of the app."""

from __future__ import annotations

import http.client
import socket

import pytest
from fakes import lab
from golden_files import Golden

from labctl.host.http_probe import Answer, get, get_within
from labctl.model.limits import NORMAL

OUTSIDE = f"which is outside the lab's pool {lab().pool}"


class Connection:
    """A fake connection that records its target and its headers, and answers or fails."""

    made: list[Connection]
    status = 200
    failure: Exception | None = None

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.target = (host, port)
        self.timeout = timeout
        self.headers: dict[str, str] = {}
        self.closed = False
        self.made.append(self)

    def request(self, method: str, path: str, headers: dict[str, str]) -> None:
        assert (method, path) == ("GET", "/")
        self.headers = headers
        if self.failure:
            raise self.failure

    def getresponse(self) -> Connection:
        return self

    def getheader(self, name: str) -> str | None:
        return {"X-Pod-Name": "my-app-1"}.get(name)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> type[Connection]:
    monkeypatch.setattr(http.client, "HTTPConnection", Connection)
    monkeypatch.setattr(Connection, "made", [], raising=False)
    return Connection


def test_a_name_is_asked_for_by_itself_and_says_which_pod_answered(connection: type[Connection]) -> None:
    assert get("my-app.local") == Answer(200, "my-app-1")

    (made,) = connection.made
    assert made.target == ("my-app.local", 80)
    assert made.timeout == NORMAL.http_answer
    assert made.closed


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (socket.gaierror(-2, "Name or service not known"), "my-app.local has no address: Name or service not known"),
        (ConnectionRefusedError(111, "Connection refused"), "no answer: [Errno 111] Connection refused"),
        (TimeoutError(), "no answer: TimeoutError"),
        (http.client.RemoteDisconnected("closed"), "no answer: closed"),
    ],
)
def test_no_answer_says_why(
    connection: type[Connection], monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    monkeypatch.setattr(connection, "failure", failure)

    answer = get("my-app.local")

    assert (answer.status, str(answer), answer.is_good) == (None, told, False)
    assert connection.made[0].closed


@pytest.mark.parametrize(
    ("status", "good"),
    [(200, True), (301, True), (401, True), (403, True), (404, False), (500, False), (502, False), (503, False)],
)
def test_an_answer_is_good_when_the_app_itself_gave_it(status: int, *, good: bool) -> None:
    assert Answer(status).is_good is good


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("192.168.56.100", Answer(200, "my-app-1")),
        ("127.0.0.1", Answer(None, failure=f"my-app.local resolves to 127.0.0.1, {OUTSIDE}")),
        ("::1", Answer(None, failure=f"my-app.local resolves to ::1, {OUTSIDE}")),
        ("fe80::1%eth0", Answer(None, failure=f"my-app.local resolves to fe80::1, {OUTSIDE}")),
    ],
)
def test_what_answers_outside_the_pool_is_not_the_lab(
    monkeypatch: pytest.MonkeyPatch, connection: type[Connection], address: str, answer: Answer
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [(0, 0, 0, "", (address, 80))])

    assert get_within(lab(), "my-app.local") == answer
    assert [made.target[0] for made in connection.made] == ([address] if answer.status else [])


def test_a_name_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    answer = get_within(lab(), "my-app.local")

    assert answer.status is None
    golden(str(answer))
