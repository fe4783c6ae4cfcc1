"""A partial registry for pushes of blobs, which can resume uploads and inject faults."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from fault_server import listening


@dataclass
class UploadRegistry:
    """A registry with its blobs, the current upload and the faults to inject."""

    url: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    upload: bytearray = field(default_factory=bytearray)
    cuts: list[int] = field(default_factory=list)
    """After how many bytes to cut the next requests with content."""
    can_resume: bool = True
    delay: float = 0.0
    """Seconds until it responds to a request with content."""
    counts_one_more: bool = False
    """Whether it reports one byte more than it received, as Quay does."""
    early: list[int] = field(default_factory=list)
    """Statuses of the next requests, to which it responds before it reads their content."""
    rest: int = 0
    """The status with which it refuses a request that continues an upload; 0 to accept it."""
    drops: bool = False
    """Whether it loses the first byte of a request that continues an upload."""
    limits: int = 0
    """How many requests for the upload's state to answer with 429."""
    kind: str = ""
    """Content-Type of the empty responses with status 201 and 202."""
    loses_response: bool = False
    """Whether to close the connection instead of answering the last request of the next upload."""
    flips: bool = False
    redirect: str = ""
    """URL of another server to which uploads are redirected."""
    requires_login: bool = False
    refusals: int = 0
    """How many requests with content to answer with 401, after all of it has arrived."""
    secrets: list[str | None] = field(default_factory=list)
    """Authorization headers of requests with content."""
    received: int = 0
    connections: int = 0
    requests: list[str] = field(default_factory=list)


@contextmanager
def uploading(certificate: tuple[Path, Path] | None = None) -> Iterator[UploadRegistry]:
    """Serve on a free port of loopback, with TLS if there is a certificate and its key."""
    registry = UploadRegistry()
    with listening(type("Handler", (_Handler,), {"registry": registry}), certificate) as registry.url:
        yield registry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: UploadRegistry

    def setup(self) -> None:
        """Count a connection."""
        super().setup()
        self.registry.connections += 1

    def handle_one_request(self) -> None:
        """Answer a request and record its method."""
        super().handle_one_request()
        if getattr(self, "command", None):
            self.registry.requests.append(self.command)

    def do_HEAD(self) -> None:
        self._answer(200 if self.path.rpartition("/")[2] in self.registry.blobs else 404)

    def do_POST(self) -> None:
        self.registry.upload.clear()
        if self.registry.requires_login and not self.headers["Authorization"]:
            self._answer(401, **{"WWW-Authenticate": "Basic"})
            return
        self._answer(202, Location=f"{self.registry.redirect}/v2/lab/blobs/uploads/1?state=0")

    def do_GET(self) -> None:
        if self.registry.limits:
            self.registry.limits -= 1
            self._answer(429, **{"Retry-After": "0"})
            return
        if not self.registry.can_resume:
            self._answer(404)
            return
        last = max(len(self.registry.upload) - 1, 0) + self.registry.counts_one_more
        self._answer(204, Location=f"/v2/lab/blobs/uploads/1?state={last}", Range=f"0-{last}")

    def do_PATCH(self) -> None:
        registry = self.registry
        registry.secrets.append(self.headers["Authorization"])
        if registry.early:
            self._answer(registry.early.pop(0), **{"WWW-Authenticate": "Basic"})
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True
            return
        start = int(self.headers.get("Content-Range", "0-").partition("-")[0])
        length = int(self.headers["Content-Length"])
        if start != len(registry.upload) or (start and registry.rest):
            self.rfile.read(length)
            self._answer(registry.rest or 416)
            return
        end = min(length, registry.cuts.pop(0) if registry.cuts else length)
        content = self.rfile.read(end)
        registry.received += len(content)
        if registry.refusals:
            registry.refusals -= 1
            self._answer(401, **{"WWW-Authenticate": "Basic"})
            return
        registry.upload += content[1:] if start and registry.drops else content
        if end < length:
            self.close_connection = True
            return
        threading.Event().wait(registry.delay)
        self._answer(202, Location="/v2/lab/blobs/uploads/1?state=end", Range=f"0-{len(registry.upload) - 1}")

    def do_PUT(self) -> None:
        (digest,) = parse_qs(urlsplit(self.path).query)["digest"]
        content = bytes(self.registry.upload[:-1]) + b"?" if self.registry.flips else bytes(self.registry.upload)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            self._answer(400)
            return
        self.registry.blobs[digest] = content
        if self.registry.loses_response:
            self.registry.loses_response, self.close_connection = False, True
            return
        self._answer(201)

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.registry.kind and status in {201, 202}:
            self.send_header("Content-Type", self.registry.kind)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass
