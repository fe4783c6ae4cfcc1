"""A web server on loopback that injects faults, and records requests and sent bytes."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Address = tuple[str, int]
LOOPBACK = "127.0.0.1"
PIECE = 1 << 14


@dataclass
class Fault:
    """A fault of one response. Attributes that are not set are correct."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    """Close the connection after this many bytes of the body."""
    stall: int | None = None
    """Send nothing more after this many bytes of the body."""
    flip: int | None = None
    """Corrupt the body's byte at this index."""
    length: int | None = None
    """The value of Content-Length."""
    raw: bytes | None = None
    """Bytes to send instead of a response."""


@dataclass
class Request:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]


class Connections:
    """The accepted connections, and those of them whose request is not answered yet."""

    def __init__(self) -> None:
        self._accepted: set[Address] = set()
        self._waiting: set[Address] = set()
        self._changed = threading.Condition()

    def accepted(self, address: Address) -> None:
        """Record a new connection, which will have a request."""
        with self._changed:
            self._accepted.add(address)
            self._waiting.add(address)
            self._changed.notify_all()

    def answered(self, address: Address) -> None:
        """Record that a connection's request is answered, or that it has ended."""
        with self._changed:
            self._waiting.discard(address)
            self._changed.notify_all()

    def wait(self, url: str) -> None:
        """Wait until every request that was sent to the server so far is answered."""
        host, _, port = url.partition("://")[2].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as last:
            address = last.getsockname()
        with self._changed:  # connections are accepted in their order
            assert self._changed.wait_for(lambda: address in self._accepted and not self._waiting, 10), self._waiting


@dataclass
class Server:
    """The server's files and faults, by path; its requests; and the number of sent bytes, by path."""

    url: str = ""
    has_ranges: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    """The fault of every response, by path; `faults` has those of the next responses, in order."""
    requests: list[Request] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    login: Callable[[Request], Fault | None] = lambda _request: None
    slow: float = 0.0
    """The seconds between two pieces of a body."""
    busy: int = 0
    most: int = 0
    """The highest number of bodies that were sent at the same time."""
    stopped: threading.Event = field(default_factory=threading.Event)
    connections: Connections = field(default_factory=Connections)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def put(self, path: str, content: bytes, kind: str = "application/octet-stream") -> str:
        """Serve a file; return its digest."""
        self.files[path], self.kinds[path] = content, kind
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    def reset(self) -> None:
        """Reset the recorded requests and bytes; those of a client that has given up are waited for."""
        self.connections.wait(self.url)
        self.requests.clear()
        self.sent.clear()


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """Serve on a free port, with TLS if there is a certificate and its key."""
    server = Server()
    handler = type("Handler", (_Handler,), {"lab": server})
    with listening(handler, certificate, connections=server.connections) as server.url:
        try:
            yield server
        finally:
            server.stopped.set()


@contextmanager
def listening(
    handler: Callable[..., BaseHTTPRequestHandler],
    certificate: tuple[Path, Path] | None = None,
    address: str = LOOPBACK,
    connections: Connections | None = None,
) -> Iterator[str]:
    """Handle requests on a free port, with TLS if there is a certificate and its key; yield the URL."""
    web = _WebServer((address, 0), handler)
    web.connections = connections or Connections()
    web.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
    web.handle_error = lambda *_: None  # type: ignore[method-assign] # clients may disconnect
    thread = threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://{address}:{web.server_port}"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


class _WebServer(ThreadingHTTPServer):
    """A web server that records its connections."""

    connections: Connections

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in socketserver
        self.connections.accepted(client_address)
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in socketserver
        try:
            super().finish_request(request, client_address)
        finally:
            self.connections.answered(client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lab: Server

    def do_GET(self) -> None:
        self.lab.connections.accepted(self.client_address)
        try:
            self._serve()
        finally:
            self.lab.connections.answered(self.client_address)

    def _serve(self) -> None:
        request = Request(self.command, self.path, {name.title(): value for name, value in self.headers.items()})
        self.lab.requests.append(request)
        path = self.path.partition("?")[0]
        waiting = self.lab.faults.get(path)
        fault = self.lab.login(request) or (waiting.pop(0) if waiting else self.lab.always.get(path, Fault()))
        if fault.raw is not None:
            self.close_connection = True
            self.wfile.write(fault.raw)
            return
        self._answer(path, fault)

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's names

    def _answer(self, path: str, fault: Fault) -> None:
        body = self.lab.files.get(path) if fault.body is None else fault.body
        if body is None or fault.status >= 300:
            self._short(fault.status if fault.status >= 300 else 404, fault.headers, fault.body or b"")
            return
        start, whole = 0, len(body)
        wanted = self.headers.get("Range", "")
        if wanted and self.lab.has_ranges and fault.body is None:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= whole:
                self._short(416, {"Content-Range": f"bytes */{whole}"}, b"")
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(fault.length if fault.length is not None else whole - start))
        for name, value in {
            "Content-Type": self.lab.kinds.get(path, "application/octet-stream"),
            **fault.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.lab.busy += 1
            self.lab.most = max(self.lab.most, self.lab.busy)
            self._body(path, body[start:], fault)
            self.lab.busy -= 1

    def _body(self, path: str, body: bytes, fault: Fault) -> None:
        if fault.flip is not None:
            body = body[: fault.flip] + bytes([body[fault.flip] ^ 1]) + body[fault.flip + 1 :]
        end = min(each for each in (fault.cut, fault.stall, len(body)) if each is not None)
        with suppress(OSError):  # the client has disconnected
            for at in range(0, end, PIECE):
                piece = body[at : min(at + PIECE, end)]
                self.wfile.write(piece)
                self.lab.sent[path] = self.lab.sent.get(path, 0) + len(piece)
                if self.lab.slow:
                    self.lab.stopped.wait(self.lab.slow)
        if fault.stall is not None:
            self.lab.connections.answered(self.client_address)
            self.lab.stopped.wait(30)
        if fault.cut is not None or fault.stall is not None or fault.length is not None:
            self.close_connection = True

    def _short(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])
