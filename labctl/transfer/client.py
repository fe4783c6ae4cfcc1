"""HTTP client that follows redirects, logs in, and raises each failure as one error."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from labctl.host import log
from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer import failures, pools, refusals
from labctl.transfer.exchange import FullResponse, Request, origin
from labctl.transfer.failures import TransientError, without_secrets
from labctl.transfer.login import Keyring, Login
from labctl.transfer.mirrors import allows_plain_http
from labctl.transfer.pools import Pools
from labctl.transfer.refusals import ANONYMOUS, Identity
from labctl.transfer.retries import Retries

REDIRECTS = 10
LONGEST = 8 << 20
"""The most bytes that are read of a short response; manifests have at most 4 MiB."""
EXPLANATION = 4096
_REDIRECTED, _SAME_METHOD = {301, 302, 303, 307, 308}, {307, 308}
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "labctl"}

Response: TypeAlias = urllib3.BaseHTTPResponse


class Client:
    """A thread-safe client that keeps connections open for further requests.

    `named` are URLs that no server supplied. Plain HTTP is allowed to their origins only.
    """

    def __init__(self, report: Progress, sleep: Callable[[float], object], named: Iterable[str]) -> None:
        self._named = {origin(url) for url in named}
        self._report = report
        self._sleep = sleep
        self._pools = Pools(os.environ)
        self._keyring = Keyring(os.environ)
        self._reached: set[str] = set()
        self._open: set[Response] = set()
        self._lock = threading.Lock()

    def login(self, url: str, scope: str = "") -> Login:
        """Return a login for requests to the URL's origin. It sends no credentials until the server requires them."""
        return Login(url, self._keyring, self.send, scope)

    def send(
        self, request: Request, identity: Identity = ANONYMOUS, login: Login | None = None, fine: Collection[int] = ()
    ) -> FullResponse:
        """Return the whole response; retry transient failures. `fine` are statuses that are not failures here.

        Raises MissingError.
        """
        retries = self.retries()
        while True:
            try:
                with self.open(request, login, identity, fine) as response:
                    content = response.read(LONGEST, decode_content=True)
            except TransientError as error:
                retries.pause(error)
                continue
            if response.status < refusals.FIRST_REDIRECT and refusals.is_page({}, content):
                raise refusals.captive_portal_error(request.url)
            return FullResponse(request.url, response.status, response.headers, content)

    def retries(self) -> Retries:
        """Return the retries of a request."""
        return Retries(self._report, self._sleep)

    @contextmanager
    def open(
        self, request: Request, login: Login | None = None, identity: Identity = ANONYMOUS, fine: Collection[int] = ()
    ) -> Iterator[Response]:
        """Send the request once; yield the response before its content is read.

        Raises MissingError, also while the content is read; PassingError for a transient failure.
        """
        response, url = self._send_logged_in(request, login)
        with self._reading(response, url):
            if login:
                identity = login.identity if login.applies_to(url) else ANONYMOUS
            if response.status not in fine and (refusal := self._refusal(response, url, identity)):
                raise refusal
            yield response

    def stop(self) -> None:
        """Abort every response that is being read, in any thread, and close the connections."""
        with self._lock:
            for response in self._open:
                with suppress(OSError, ValueError, RuntimeError):  # it was closed in the meantime
                    response.shutdown()
        self._pools.close()

    def _send_logged_in(self, request: Request, login: Login | None) -> tuple[Response, str]:
        """Return the response and the URL that it came from, after a login if the server requires one."""
        if login is None or not login.applies_to(request.url):
            return self._send_redirected(request, {})
        used = login.headers
        response, url = self._send_redirected(request, used)
        is_asked = response.status == refusals.UNAUTHORIZED and login.applies_to(url)
        if not is_asked or not login.log_in(response.headers.get("WWW-Authenticate", ""), used):
            return response, url
        _release(response)
        return self._send_redirected(request, login.headers)

    def _send_redirected(self, request: Request, secrets: Mapping[str, str]) -> tuple[Response, str]:
        """Send the request and follow redirects; drop the Authorization header if one leads to another origin."""
        url, method = request.url, request.method
        headers = {**_HEADERS, **request.headers, **secrets}
        for _ in range(REDIRECTS):
            response = self._send(method, url, headers, request)
            target = joined(url, response.headers.get("Location"))
            can_repeat = method in {"GET", "HEAD"} or (response.status in _SAME_METHOD and request.body is None)
            if response.status not in _REDIRECTED or not target or not can_repeat:
                return response, url
            response.close()
            url, last = target, url
            if urlsplit(url).scheme == "http" != urlsplit(last).scheme:
                raise failures.plain_http_error(url)
            if origin(url) != origin(last):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        raise MissingError(
            f"{without_secrets(request.url)} redirects too often, last to {without_secrets(url)}",
            id="redirected-forever",
            hint="Check the address; a login page or a proxy may have answered.",
        )

    def _send(self, method: str, url: str, headers: Mapping[str, str], request: Request) -> Response:
        self._check_plain_http(url)
        host = urlsplit(url).netloc
        try:
            response = self._pools.manager(url).request(
                method,
                url,
                body=request.body() if callable(request.body) else request.body,
                headers=dict(headers),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=pools.CONNECT_SECONDS, read=request.silence or pools.READ_SECONDS),
            )
        except HTTPError as error:
            failure = failures.from_error(error, url, self._pools.proxy(url), reached=host in self._reached)
            log.write(os.getpid(), f"{method} {without_secrets(url)}: {failure.message}")
            raise failure from error
        self._reached.add(host)
        log.write(os.getpid(), f"{method} {without_secrets(url)}: HTTP {response.status}")
        return response

    def _check_plain_http(self, url: str) -> None:
        parts = urlsplit(url)
        is_plain = parts.scheme == "http" and origin(url) in self._named and allows_plain_http(parts.hostname or "")
        if parts.scheme != "https" and not is_plain:
            raise failures.plain_http_error(url)

    @contextmanager
    def _reading(self, response: Response, url: str) -> Iterator[None]:
        with self._lock:
            self._open.add(response)
        try:
            yield
            _release(response)
        except HTTPError as error:
            raise failures.from_error(error, url, self._pools.proxy(url), reached=True) from error
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()  # a response that was read to its end has released its connection already

    @staticmethod
    def _refusal(response: Response, url: str, identity: Identity) -> MissingError | None:
        if response.status < refusals.FIRST_REDIRECT:
            # A captive portal sends 200. Some registries, such as Quay, label their empty 201 and 202 as HTML.
            is_page = response.status == refusals.OK and refusals.is_page(response.headers, b"")
            return refusals.captive_portal_error(url) if is_page else None
        explanation = b""
        with suppress(HTTPError):  # the status is enough
            explanation = response.read(EXPLANATION)
        return refusals.from_response(response.status, response.headers, explanation, url, identity)


def joined(url: str, location: str | None) -> str:
    """Return the absolute URL of a Location header; empty if it is missing or invalid."""
    try:
        target = urljoin(url, location or "")
        return target if location and urlsplit(target).hostname else ""
    except ValueError:
        return ""


def _release(response: Response) -> None:
    """Close a response; drain it first if little is left, so that its connection can be reused."""
    left = response.length_remaining
    if left is not None and left <= EXPLANATION:
        response.drain_conn()
    response.close()
