"""Each fault of a server is one clear error, and the same call then goes on without what had arrived."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import Fault, Server, serving

from labctl.model.errors import LabError
from labctl.transfer import fetch as fetching
from labctl.transfer import pools, retries
from labctl.transfer.fetch import Wanted, fetch
from labctl.transfer.store import Blob, BlobStore

MIB = 1 << 20
CONTENT = os.urandom(MIB)
SMALL = b"small" * 100
NO_LENGTH = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
HTML = b"<!DOCTYPE html><title>Log in</title>"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "DOCKER_CONFIG")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(pools, "READ_SECONDS", 0.3)
    monkeypatch.setattr(fetching, "TICK_SECONDS", 0.02)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def _wanted(server: Server) -> Wanted:
    return Wanted("big", f"{server.url}/big", server.put("/big", CONTENT), MIB)


def _small(server: Server) -> Wanted:
    return Wanted("small", f"{server.url}/small", server.put("/small", SMALL))


def _fails(wanted: Wanted, store: BlobStore) -> LabError:
    with pytest.raises(LabError) as failed:
        fetch([wanted], store, _ignore)
    return failed.value


def _ignore(_text: str) -> None:
    pass


FAULTS = {
    "cut": (Fault(cut=0), "source-cut-off", 0.5),
    "cut without a length": (Fault(raw=NO_LENGTH + CONTENT[: MIB // 2]), "source-cut-off", 0.5),
    "another part": (Fault(raw=b"HTTP/1.1 206 OK\r\nConnection: close\r\n\r\nabc"), "source-confused", 1),
    "stall": (Fault(stall=0), "source-silent", 0.5),
    "flip": (Fault(flip=MIB // 2), "digest-mismatch", 1),
    "shorter than known": (Fault(body=SMALL), "size-mismatch", 1),
    "a wrong length": (Fault(length=MIB + 1), "size-mismatch", 1),
    "a page": (Fault(headers={"Content-Type": "text/html; charset=utf-8"}, body=HTML), "captive-portal", 1),
    "a page of no type": (Fault(body=b"\n " + HTML.ljust(MIB - 2)), "captive-portal", 1),
    "a network's login": (Fault(status=511), "captive-portal", 1),
    "a redirect to a page": (Fault(status=302, headers={"Location": "/login"}), "captive-portal", 1),
    "a redirect to itself": (Fault(status=302, headers={"Location": "/big"}), "redirected-forever", 1),
    "a redirect to plain HTTP": (Fault(status=302, headers={"Location": "http://a.test/"}), "plain-http-refused", 1),
    "401": (Fault(status=401), "login-needed", 1),
    "403": (Fault(status=403), "login-needed", 1),
    "404": (Fault(status=404), "source-not-found", 1),
    "418": (Fault(status=418), "source-refused", 1),
    "500": (Fault(status=500), "source-failing", 1),
    "503 for hours": (Fault(status=503, headers={"Retry-After": "7200"}), "source-failing", 1),
    "429": (Fault(status=429), "rate-limited", 1),
    "429 for hours": (Fault(status=429, headers={"Retry-After": "7200"}), "rate-limited", 1),
    "no HTTP": (Fault(raw=b"SSH-2.0-OpenSSH_10.0\r\n"), "source-cut-off", 1),
    "TLS": (Fault(raw=b"\x15\x03\x01\x00\x02\x02\x16"), "source-expects-tls", 1),
    "TLS, politely": (
        Fault(status=400, body=b"Client sent an HTTP request to an HTTPS server."),
        "source-expects-tls",
        1,
    ),
}


@pytest.mark.parametrize(("fault", "identity", "missing"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_error_and_afterwards_the_same_call_goes_through(
    server: Server, store: BlobStore, fault: Fault, identity: str, missing: float
) -> None:
    big, small = _wanted(server), _small(server)
    server.put("/login", HTML, "text/html")
    fetch([small], store, _ignore)
    server.faults["/big"] = [Fault(cut=MIB // 2)] * (missing < 1)
    server.always["/big"] = fault

    failure = _fails(big, store)

    assert failure.id == identity
    assert server.host in failure.message or "a.test" in failure.message
    assert failure.hint
    server.always.clear()
    server.forget()
    assert fetch([big, small], store, _ignore) == (Blob(big.digest or "", MIB), Blob(small.digest or "", len(SMALL)))
    assert store.path(big.digest or "").read_bytes() == CONTENT
    assert server.sent == {"/big": pytest.approx(MIB * missing, abs=MIB * 0.3)}
    assert [asked.path for asked in server.asked] == ["/big"]
    assert fetch([big], store, _ignore)
    assert len(server.asked) == 1
