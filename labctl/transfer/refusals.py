"""Errors for responses with an error status, or with a web page in place of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from labctl.host.redaction import redact
from labctl.model.errors import MissingError
from labctl.transfer.challenges import retry_after
from labctl.transfer.failures import AGAIN, TransientError, proxy_refused_error, tls_expected_error, without_secrets

OK, FIRST_REDIRECT = 200, 300
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, PROXY_LOGIN, TOO_SLOW, TOO_MANY, PORTAL = 401, 403, 404, 407, 408, 429, 511
FIRST_FAILURE, FIRST_OF_SERVER = 400, 500
DETAIL = 300
"""The most characters of a server's explanation that are shown."""
HUB = ("docker.io", "registry-1.docker.io", "auth.docker.io")
_HTML = (b"<!doctype html", b"<html")


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity with which a request was sent: the login's host, and the user in words; empty if anonymous."""

    host: str = ""
    user_text: str = ""
    problem: str = ""
    """Why the user's credentials could not be read."""

    def command(self, host: str) -> str:
        """Return the command that logs in to the login's host, else to `host`."""
        name = self.host or host
        return "`docker login`" if name in HUB else f"`docker login {name}`"


ANONYMOUS = Identity()


def from_response(
    status: int, headers: Mapping[str, str], content: bytes, url: str, identity: Identity
) -> MissingError | None:
    """Return the error for a status; None if it is no failure. `content` is the beginning of the response."""
    if status < FIRST_REDIRECT:
        return None
    host, where = urlsplit(url).netloc.rpartition("@")[2], f"{without_secrets(url)}: HTTP {status}"
    details = tuple(filter(None, [_explanation(content), identity.problem]))
    if status == PORTAL:
        return captive_portal_error(url)
    if status in {UNAUTHORIZED, FORBIDDEN}:
        return _access_error(status, where, host, identity, details)
    if status == TOO_MANY:
        return _rate_limit_error(where, host, headers, identity, details)
    if status >= FIRST_OF_SERVER or status == TOO_SLOW:
        failing = TransientError(f"{where}: the server has a problem", id="source-failing", hint=AGAIN, details=details)
        failing.after = retry_after(headers.get("Retry-After"))
        return failing
    return _status_error(status, where, url, content, details)


def is_page(headers: Mapping[str, str], beginning: bytes) -> bool:
    """Return whether a response is a web page; nothing that labctl fetches is one."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} or beginning[:100].lstrip().lower().startswith(_HTML)


def captive_portal_error(url: str) -> MissingError:
    """Return the error for a web page in place of the requested file."""
    return MissingError(
        f"{without_secrets(url)}: the server sent a web page instead of the file",
        id="captive-portal",
        hint="Open the address in a browser: a network's login page or a proxy may have answered. Log in there, then run the same command again.",
    )


def _status_error(status: int, where: str, url: str, content: bytes, details: tuple[str, ...]) -> MissingError:
    if status == NOT_FOUND:
        return MissingError(
            f"{where}: no such file or image",
            id="source-not-found",
            hint="Check the name and the version. If the host has a mirror, check that the mirror has the file.",
            details=details,
        )
    if status == PROXY_LOGIN:
        return proxy_refused_error("the proxy", "HTTP_PROXY", "it requires a login")
    if b"HTTPS" in content and url.startswith("http:"):
        return tls_expected_error(url)
    return MissingError(where, id="source-refused", hint="Ask the server's administrator.", details=details)


def _access_error(status: int, where: str, host: str, identity: Identity, details: tuple[str, ...]) -> MissingError:
    if identity.user_text:
        return MissingError(
            f"{where}: access was refused {identity.user_text}",
            id="login-refused",
            hint=f"Run {identity.command(host)} with a user who has access, and check the name.",
            details=details,
        )
    asked = "the server requires a login" if status == UNAUTHORIZED else "access without a login was refused"
    return MissingError(
        f"{where}: {asked}",
        id="login-needed",
        hint=f"Run {identity.command(host)}, and check the name: registries give the same answer for a name that does not exist.",
        details=details,
    )


def _rate_limit_error(
    where: str, host: str, headers: Mapping[str, str], identity: Identity, details: tuple[str, ...]
) -> MissingError:
    after = retry_after(headers.get("Retry-After"))
    wait = "" if after is None else f" for another {after:.0f} s"
    is_hub = host in HUB
    hub = (
        " Docker Hub limits anonymous pulls by address: `docker login` raises the limit."
        if is_hub and not identity.user_text
        else ""
    )
    kind = MissingError if is_hub and after is None else TransientError  # Docker Hub's limit lasts for hours
    limited = kind(
        f"{where}: {host} refuses further requests{wait}",
        id="rate-limited",
        hint=f"Wait, then run the same command again; received data is kept.{hub} A mirror in LABCTL_MIRRORS has no such limit.",
        details=details,
    )
    if isinstance(limited, TransientError):
        limited.after = after
    return limited


def _explanation(content: bytes) -> str:
    """Return a registry's explanation of the failure, in one line."""
    try:
        answer: Any = json.loads(content)
        errors = [f"{each['code']}: {each.get('message', '')}" for each in answer["errors"]]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return ""
    return redact(" ".join("; ".join(errors).split()), ())[:DETAIL]
