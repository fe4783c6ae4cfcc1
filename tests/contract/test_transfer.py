"""Each fault of a server is one clear error, and repeating the call resumes without fetching again what arrived."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from certificates_for import self_signed
from fault_server import PIECE, Fault, Server, free_port, serving

from labctl.host import log, wait
from labctl.model.errors import LabError
from labctl.transfer import dial, download, parallel, pools, retries, trust
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
    monkeypatch.setattr(parallel, "TICK_SECONDS", 0.02)
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


def _failure(wanted: Wanted, store: BlobStore) -> LabError:
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
    "a redirect to nowhere": (Fault(status=302, headers={"Location": "http://[/"}), "source-refused", 1),
    "a redirect to no port": (
        Fault(status=302, headers={"Location": "https://a.test:70000/?x=hush"}),
        "source-address-invalid",
        1,
    ),
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
def test_a_fault_is_one_error_and_a_repeated_call_succeeds(
    server: Server, store: BlobStore, fault: Fault, identity: str, missing: float
) -> None:
    big, small = _wanted(server), _small(server)
    server.put("/login", HTML, "text/html")
    fetch([small], store, _ignore)
    server.faults["/big"] = [Fault(cut=MIB // 2)] * (missing < 1)
    server.always["/big"] = fault

    failure = _failure(big, store)

    assert failure.id == identity
    assert server.host in failure.message or "a.test" in failure.message
    assert failure.hint
    assert "hush" not in failure.message
    server.always.clear()
    server.reset()
    assert fetch([big, small], store, _ignore) == (Blob(big.digest or "", MIB), Blob(small.digest or "", len(SMALL)))
    assert store.path(big.digest or "").read_bytes() == CONTENT
    assert server.sent["/big"] == pytest.approx(MIB * missing, abs=MIB * 0.3)
    assert [request.path for request in server.requests] == ["/big"]
    assert fetch([big], store, _ignore)
    assert len(server.requests) == 1


def test_temporary_faults_are_retried(server: Server, store: BlobStore) -> None:
    big = _wanted(server)
    server.faults["/big"] = [
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=503),
        Fault(cut=MIB // 4),
        Fault(stall=MIB // 4),
        Fault(cut=MIB // 8),
        Fault(raw=b""),
    ]
    texts: list[str] = []

    assert fetch([big], store, texts.append) == (Blob(big.digest or "", MIB),)
    assert server.sent["/big"] < MIB * 1.1
    assert any(server.host in text and "429" in text for text in texts)


def test_without_ranges_a_download_restarts_from_the_beginning(server: Server, store: BlobStore) -> None:
    server.has_ranges = False
    big = _wanted(server)
    server.faults["/big"] = [Fault(cut=MIB // 2)]

    assert fetch([big], store, _ignore) == (Blob(big.digest or "", MIB),)
    assert server.sent["/big"] >= MIB * 1.4
    server.always["/big"] = Fault(cut=MIB // 2)
    other = Wanted("other", big.url + "?again", server.put("/big", CONTENT[::-1]), MIB)
    assert _failure(other, store).id == "source-cut-off"


@pytest.mark.parametrize("left", [b"?" * 1000, CONTENT[:1000] + b"?" * 1000, b"?" * MIB, b"?" * (MIB + 1), CONTENT])
def test_a_partial_file_is_verified_and_fetched_again_if_damaged(server: Server, store: BlobStore, left: bytes) -> None:
    big = _wanted(server)
    store.partial(big.digest or "").write_bytes(left)

    assert fetch([big], store, _ignore) == (Blob(big.digest or "", MIB),)
    assert store.path(big.digest or "").read_bytes() == CONTENT
    assert len(server.requests) == {CONTENT: 0, b"?" * MIB: 1, b"?" * (MIB + 1): 1}.get(left, 2)


def test_a_file_without_a_digest_is_not_joined_from_two_versions(server: Server, store: BlobStore) -> None:
    loose = replace(_wanted(server), digest=None, size=None)
    server.faults["/big"] = [Fault(cut=MIB // 2, headers={"ETag": '"1"'})]
    assert fetch([loose], store, _ignore)[0].size == MIB
    assert server.requests[-1].headers["If-Range"] == '"1"'

    server.reset()
    server.faults["/big"] = [Fault(cut=MIB // 2)]
    fetch([loose], store, _ignore)
    assert [request.headers.get("Range") for request in server.requests] == [None, None]


def test_files_are_fetched_in_parallel_and_each_once(server: Server, store: BlobStore) -> None:
    contents = [os.urandom(PIECE * 4) for _ in range(4)]
    wanted = [
        Wanted(str(number), f"{server.url}/{number}", server.put(f"/{number}", content))
        for number, content in enumerate(contents)
    ]
    server.slow = 0.03

    blobs = fetch([*wanted, *wanted], store, _ignore)

    assert [blob.digest for blob in blobs] == [each.digest for each in wanted] * 2
    assert sorted(request.path for request in server.requests) == ["/0", "/1", "/2", "/3"]
    assert server.most > 1


def test_an_unreachable_host_fails_quickly(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.3
    monkeypatch.setattr(pools, "CONNECT_SECONDS", seconds)
    resolved, original = threading.Event(), socket.getaddrinfo

    def resolve(host: str, port: int, **words: Any) -> Any:  # noqa: ANN401 - as in the real function
        resolved.wait(5 if host == "slow.test" else 0)
        if host == "unknown.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return original(host.replace("silent.test", "127.0.0.1"), port, **words)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with _unresponsive_port() as port:
        urls = (
            "https://slow.test",
            "https://unknown.test",
            f"http://127.0.0.1:{free_port()}",
            f"https://silent.test:{port}",
        )
        for url in urls:
            began = time.monotonic()
            failure = _failure(Wanted("it", f"{url}/it"), store)
            assert (failure.id, url.partition("://")[2] in failure.message) == ("source-unreachable", True)
            assert time.monotonic() - began < seconds + 1
    resolved.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_silent_host_is_not_retried(store: BlobStore, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setattr(pools, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        failure = _failure(Wanted("it", f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/it"), store)
    assert failure.id == "source-silent"
    assert time.monotonic() - began < 1.5


def test_an_unreachable_address_of_a_host_causes_no_delay(
    server: Server, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = socket.getaddrinfo
    with _unresponsive_port() as port:
        dead = original("127.0.0.1", port, type=socket.SOCK_STREAM)
        unknown = [(9999, *each[1:]) for each in dead]  # an address family that is switched off, like IPv6 elsewhere
        addresses = [*unknown, *dead]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *place, **words: [*addresses, *original(*place, **words)])
        began = time.monotonic()

        assert fetch([_small(server)], store, _ignore)
        assert time.monotonic() - began < dial.STAGGER_SECONDS + 0.5


def test_the_certificate_of_a_server_is_verified(
    tmp_path: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    with serving(certificate) as server:
        small = _small(server)
        assert _failure(small, store).id == "certificate-untrusted"
        with monkeypatch.context() as patch:  # a system without certificates
            patch.setattr(trust, "STORES", ())
            patch.setattr(ssl, "get_default_verify_paths", lambda: (None, None))
            assert _failure(small, store).id == "certificate-untrusted"
        plain = replace(small, url=small.url.replace("https", "http"))
        assert _failure(plain, store).id in {"source-expects-tls", "source-cut-off"}
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        assert _failure(small, store).id == "certificates-unreadable"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
        assert _failure(small, store).id == "certificates-unreadable"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert fetch([small], store, _ignore)
    with serving(self_signed(tmp_path, "127.0.0.2")) as other:
        assert _failure(_small(other), BlobStore(tmp_path / "other")).id == "certificate-untrusted"
    with serving() as plain_server:
        tls = Wanted("it", plain_server.url.replace("http", "https"))
        failure = _failure(tls, store)
        assert (failure.id, f"={'http'}://{plain_server.host}" in failure.hint) == ("source-without-tls", True)


def test_a_proxy_is_used_and_named_if_it_fails(
    server: Server, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://10.255.255.1"
    wanted = Wanted("it", f"{address}/it", server.put(f"{address}/it", SMALL))
    monkeypatch.setenv("HTTP_PROXY", f"http://me:hush@{server.host}")
    assert fetch([wanted], store, _ignore)
    assert server.requests[-1].headers["Proxy-Authorization"] == f"Basic {base64.b64encode(b'me:hush').decode()}"

    server.always[f"{address}/other"] = Fault(status=407)
    monkeypatch.setenv("https_proxy", server.host)
    for url in (f"{address}/other", "https://registry.test/it"):
        assert _failure(Wanted("it", url), store).id == "proxy-refused"
    server.always.clear()
    server.put(f"{address}/other", SMALL[::-1])
    server.reset()
    other = replace(wanted, url=f"{address}/other", digest=None)
    assert fetch([wanted, other], store, _ignore)
    assert server.sent == {f"{address}/other": len(SMALL)}


@pytest.mark.parametrize(
    ("proxy", "identity"),
    [
        ("http://me:hush@127.0.0.1:9", "proxy-unreachable"),
        ("http://me:hush@hush@127.0.0.1:9", "proxy-unreachable"),
        ("http://hush@127.0.0.1:9", "proxy-unreachable"),
        ("me:hush@127.0.0.1:9", "proxy-unreachable"),
        ("socks5://me:hush@127.0.0.1:1080", "proxy-unusable"),
        ("http://me:hush@127.0.0.1:99999", "proxy-unusable"),
        ("http://me:hush@[::1", "proxy-unusable"),
        ("http://", "proxy-unusable"),
    ],
)
def test_an_unusable_proxy_is_named_without_its_password(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, proxy: str, identity: str
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "write", lambda _pid, text: lines.append(text))
    monkeypatch.setenv("https_proxy", proxy)

    failure = _failure(Wanted("it", "https://registry.test/it"), store)

    assert (failure.id, "https_proxy" in failure.message) == (identity, True)
    assert "hush" not in f"{failure.message}{failure.hint}{lines}"
    assert proxy.rpartition("@")[2].removeprefix("http://") in failure.message


def test_a_password_goes_only_to_its_own_host(
    server: Server, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "write", lambda _pid, text: lines.append(text))
    entry = {"auth": base64.b64encode(b"me:hush").decode()}
    (tmp_path / "docker").mkdir()
    config = tmp_path / "docker/config.json"
    server.login = lambda request: (
        None
        if request.headers.get("Authorization") == f"Basic {entry['auth']}"
        else Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="files"'})
    )
    small = _small(server)
    assert _failure(small, store).id == "login-needed"
    config.write_text(json.dumps({"auths": {server.host: {"auth": base64.b64encode(b"me:no").decode()}}}))
    failure = _failure(small, store)
    assert (failure.id, "me" in failure.message) == ("login-refused", True)
    config.write_text(json.dumps({"auths": {server.host: entry}}))

    with serving() as other:
        other.put("/small", SMALL)
        server.always["/small"] = Fault(status=307, headers={"Location": f"{other.url}/small?signature=hush"})
        beside = Wanted("beside", f"{other.url}/beside")  # named by the user as well
        other.put("/beside", SMALL)
        assert fetch([small, beside], store, _ignore)
        assert "Authorization" in server.requests[-1].headers
        assert ["Authorization" in request.headers for request in other.requests] == [False, False]
        config.write_text(json.dumps({"auths": {server.host: entry, other.host: entry}}))
        other.always["/small"] = Fault(status=401, headers={"WWW-Authenticate": "Basic"})
        with pytest.raises(LabError) as failed:
            fetch([replace(small, digest=None), beside], store, _ignore)
        assert failed.value.id == "login-needed"
        assert any("Authorization" in request.headers for request in other.requests) is False
        assert _failure(replace(small, digest=None), store).id == "plain-http-refused"  # not named by the user
    assert not any(secret in line for line in lines for secret in ("hush", entry["auth"]))


def test_a_full_disk_is_reported_with_both_sizes_and_what_has_arrived_is_kept(
    server: Server, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, small, room = _wanted(server), _small(server), [MIB // 2]
    fetch([small], store, _ignore)
    original = download._write

    def write(descriptor: int, content: bytes) -> None:
        original(descriptor, content[: room[0]])
        room[0] -= len(content)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=MIB // 2))
        before = _failure(big, store)
        assert server.sent == {"/small": len(SMALL)}
        patch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3 * MIB))
        patch.setattr(download, "_write", write)
        during = _failure(big, store)

    for failure, free in ((before, 0), (during, 3)):
        assert failure.id == "disk-full"
        assert [int(size) for size in re.findall(r"(\d+) MiB", failure.message)] == [1, free]
        assert str(store.folder) in failure.message
    server.reset()
    assert fetch([big, small], store, _ignore)
    assert server.sent == {"/big": MIB // 2}


def eventually(condition: Callable[[], bool]) -> None:
    wait.until(lambda: condition() or wait.Pending("not yet"), what="it", timeout=5, interval=0.01)


RUN = """
import sys
from pathlib import Path
from labctl.transfer import fetch, retries
from labctl.transfer.store import BlobStore
print("begins", flush=True)
url, digest, folder = sys.argv[1:]
fetch.fetch([fetch.Wanted("it", url, digest)], BlobStore(Path(folder)), lambda text: print(text, flush=True))
"""


def _process(wanted: Wanted, store: BlobStore) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", RUN, wanted.url, wanted.digest or "", str(store.folder)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_exits_at_once_and_keeps_what_has_arrived(server: Server, store: BlobStore) -> None:
    big = _wanted(server)
    server.faults["/big"] = [Fault(stall=MIB // 2)]
    store.partial(big.digest or "").touch()
    with _process(big, store) as child:
        eventually(lambda: store.partial(big.digest or "").stat().st_size == MIB // 2)
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert child.wait(10) != 0
        assert time.monotonic() - began < 1.5
        assert "KeyboardInterrupt" in (child.communicate()[1] or "")

    server.reset()
    assert fetch([big], store, _ignore)
    assert server.sent["/big"] < MIB * 0.6


def test_two_processes_fetch_a_file_once(server: Server, store: BlobStore) -> None:
    big = _wanted(server)
    server.slow = 0.01
    with _process(big, store) as other:
        eventually(lambda: bool(server.requests))
        assert fetch([big], store, _ignore)
        assert other.wait(10) == 0

    assert server.sent == {"/big": MIB}
    assert list((store.folder / "partial").iterdir()) == []


@contextmanager
def _unresponsive_port() -> Iterator[int]:
    """A loopback port that accepts no connection, because its backlog is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
