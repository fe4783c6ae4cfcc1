"""Logins to servers: basic authentication, and bearer tokens for a registry's repositories."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlencode, urlsplit

from labctl.model.errors import LabError, MissingError
from labctl.transfer import credentials
from labctl.transfer.challenges import BASIC, BEARER, Challenge, challenges
from labctl.transfer.credentials import Credentials
from labctl.transfer.exchange import FullResponse, Request, origin
from labctl.transfer.failures import plain_http_error
from labctl.transfer.refusals import Identity

Ask: TypeAlias = Callable[[Request, Identity], FullResponse]
"""Sends a request without a login. Raises MissingError if it fails."""
CLIENT = "labctl"
FORM = "application/x-www-form-urlencoded"
LIFETIME = 60.0
"""The lifetime in seconds of a token whose response has none; the specification's default."""
SPARE_SECONDS = 5.0


class Keyring:
    """The user's credentials, each looked up once."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._known: dict[str, Credentials | None] = {}
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()

    def credentials(self, host: str) -> Credentials | None:
        """Return the credentials for a host; None if there are none, or if they cannot be read: see `problem`."""
        with self._lock:
            if host not in self._known:
                try:
                    self._known[host] = credentials.lookup(host, self._environment)
                except LabError as error:
                    self._known[host] = None
                    self._problems[host] = f"{error.message}. {error.hint}"
            return self._known[host]

    def problem(self, host: str) -> str:
        """Return why the credentials for a host could not be read; empty if they could."""
        return self._problems.get(host, "")


@dataclass
class Login:
    """A thread-safe login for requests to one origin, that of `url`.

    `scope` is the scope of a token; by default, the one that the server requires.
    """

    url: str
    keyring: Keyring
    send: Ask
    scope: str = ""
    _header: str = field(default="", repr=False)
    _expires: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def host(self) -> str:
        """The host, with its port, whose credentials are used."""
        return urlsplit(self.url).netloc

    def applies_to(self, url: str) -> bool:
        """Return whether requests to this URL may carry the login: a server can direct them to any other origin."""
        return origin(url) == origin(self.url)

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header of a request; empty before a login and once the token has expired."""
        with self._lock:
            return {"Authorization": self._header} if self._header and time.monotonic() < self._expires else {}

    @property
    def identity(self) -> Identity:
        """The identity with which requests are sent."""
        account = self.keyring.credentials(self.host) if self._header else None
        return Identity(self.host, str(account or ""), self.keyring.problem(self.host))

    def log_in(self, header: str, used: Mapping[str, str]) -> bool:
        """Log in as the WWW-Authenticate header requires; return whether to send the request again.

        `used` are the login's headers of the refused request.
        """
        with self._lock:
            if self._header not in {"", used.get("Authorization")} and time.monotonic() < self._expires:
                return True  # another thread has logged in meanwhile
            ways = {way.scheme: way for way in reversed(challenges(header))}
            if bearer := ways.get(BEARER):
                self._header, self._expires = self._token(bearer)
                return True
            account = self.keyring.credentials(self.host)
            if BASIC not in ways or account is None or account.basic == used.get("Authorization"):
                return False
            self._header, self._expires = account.basic, float("inf")
            return True

    def _token(self, challenge: Challenge) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        scheme, _ = origin(realm)
        if scheme not in {"http", "https"}:
            raise _token_error(self.host, f"its challenge has no valid realm: {realm!r}")
        if scheme != "https" == origin(self.url)[0]:
            raise plain_http_error(realm)
        query = {
            "service": challenge.parameters.get("service", ""),
            "scope": self.scope or challenge.parameters.get("scope", ""),
        }
        requested_at = time.monotonic()
        account = self.keyring.credentials(self.host)
        identity = Identity(self.host, str(account or ""), self.keyring.problem(self.host))
        answer = self.send(_request(realm, {name: value for name, value in query.items() if value}, account), identity)
        try:
            content = answer.json()
            token = _require_one_word(content.get("token") or content["access_token"])
            lifetime = float(content.get("expires_in") or LIFETIME)
        except (ValueError, OverflowError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise _token_error(self.host, f"the response of {urlsplit(realm).netloc} has none") from error
        return f"Bearer {token}", requested_at + max(lifetime - SPARE_SECONDS, SPARE_SECONDS)


def _request(realm: str, query: Mapping[str, str], account: Credentials | None) -> Request:
    """Return the request for a token."""
    if account is None:
        return Request("GET", _with_query(realm, query))
    if account.identity_token:
        form = {**query, "grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": account.identity_token}
        return Request("POST", realm, {"Content-Type": FORM}, urlencode(form).encode())
    return Request("GET", _with_query(realm, {**query, "account": account.user}), {"Authorization": account.basic})


def _require_one_word(token: object) -> str:
    """Return the token if a header can carry it. Raises ValueError otherwise."""
    if isinstance(token, str) and token.isascii() and token.isprintable():
        return token
    raise ValueError("not a token")


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}" if query else url


def _token_error(host: str, problem: str) -> MissingError:
    return MissingError(
        f"{host} requires a token, but {problem}",
        id="token-not-given",
        hint="Check that the address is a registry's, and that no proxy or login page answers.",
    )
