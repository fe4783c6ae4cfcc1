"""Requests over HTTP: one at a time, with redirects followed, and with what goes wrong told as one error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias
from urllib.parse import urljoin, urlsplit

import urllib3

from labctl.model.errors import MissingError

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
"""How long a server may be silent."""
REDIRECTS = 10
_REDIRECTED = {301, 302, 303, 307, 308}
_FIRST_FAILURE = 400
_NOT_FOUND = 404

Response: TypeAlias = urllib3.BaseHTTPResponse


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A short answer, as a whole."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> object:
        """Return the content, read as JSON. Raises ValueError."""
        return json.loads(self.content)


class Client:
    """Connections to servers, which stay open for further requests."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(maxsize=8, timeout=urllib3.Timeout(CONNECT_SECONDS, READ_SECONDS))

    def ask(self, request: Request) -> Answer:
        """Return the whole answer."""
        with self.open(request) as response:
            return Answer(request.url, response.status, response.headers, response.read(decode_content=True))

    @contextmanager
    def open(self, request: Request) -> Iterator[Response]:
        """Send the request; yield the answer, whose content is still to be read. Raises MissingError."""
        try:
            response = self._send(request)
            try:
                yield response
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            host = urlsplit(request.url).netloc
            raise MissingError(
                f"{host} does not answer: {error}",
                id="source-unreachable",
                hint="Check the network, or name a mirror in LABCTL_MIRRORS.",
            ) from error

    def _send(self, request: Request) -> Response:
        url, headers = request.url, {"Accept-Encoding": "identity", "User-Agent": "labctl", **request.headers}
        for _ in range(REDIRECTS):
            response = self._pool.request(
                request.method,
                url,
                body=request.body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
            )
            target = response.headers.get("Location")
            if response.status not in _REDIRECTED or not target:
                break
            response.close()
            url, old = urljoin(url, target), url
            if urlsplit(url)[:2] != urlsplit(old)[:2]:
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        return response


def check(status: int, url: str) -> None:
    """Raise MissingError for an answer that is none."""
    if status == _NOT_FOUND:
        raise MissingError(f"{url}: HTTP {status}", id="source-not-found", hint="Check the version and the mirrors.")
    if status >= _FIRST_FAILURE:
        raise MissingError(f"{url}: HTTP {status}", id="source-refused", hint="Ask who looks after the server.")
