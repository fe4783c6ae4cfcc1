"""Failures of the network, of proxies and of TLS, as errors that name the cause."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

from urllib3 import exceptions

from labctl.host.redaction import without_login
from labctl.model.errors import MissingError

CHECK_NETWORK = (
    "Check the network and the name. Behind a company's proxy, set HTTPS_PROXY; LABCTL_MIRRORS can name a mirror."
)
AGAIN = "Run the same command again; received data is kept."
_TLS_ALERT = "\\x15\\x03"
"""The first bytes, as `repr` shows them, of the TLS alert that a TLS server sends in response to plain HTTP."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")


class TransientError(MissingError):
    """A transient failure: a retry may succeed, after `after` seconds if the server named a time."""

    after: float | None = None

    @property
    def final(self) -> MissingError:
        """The same failure as an error that is not retried."""
        return MissingError(self.message, id=self.id, hint=self.hint, details=self.details)


def without_secrets(url: str) -> str:
    """Return the URL without the parts that may be secret: user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def from_error(error: exceptions.HTTPError, url: str, proxy: tuple[str, str] | None, *, reached: bool) -> MissingError:
    """Return the error for a failed request. `reached` tells whether its host has answered before."""
    kind = TransientError if reached else MissingError  # a host that never answered is not retried
    if isinstance(error, exceptions.ProxyError):
        return _from_proxy_error(error, proxy)
    if isinstance(error, exceptions.SSLError):
        return _from_tls_error(error, url)
    if isinstance(error, exceptions.ReadTimeoutError):
        return kind(f"{without_secrets(url)}: the server does not send anything", id="source-silent", hint=AGAIN)
    reason = _reason(error)
    if isinstance(error, exceptions.NewConnectionError | exceptions.ConnectTimeoutError):
        host = urlsplit(url).netloc.rpartition("@")[2]
        return kind(f"{host} cannot be reached: {reason}", id="source-unreachable", hint=CHECK_NETWORK)
    return _from_exchange_error(error, url, reason)


def _from_exchange_error(error: exceptions.HTTPError, url: str, reason: str) -> MissingError:
    if isinstance(error, exceptions.LocationValueError):
        return MissingError(
            f"{without_secrets(url)} is not a valid address",
            id="source-address-invalid",
            hint="Check the address, and the mirror's address if the host has a mirror.",
        )
    if _TLS_ALERT in repr(error):
        return tls_expected_error(url)
    return TransientError(f"{without_secrets(url)}: the connection was lost: {reason}", id="source-cut-off", hint=AGAIN)


def plain_http_error(url: str) -> MissingError:
    """Return the error for a plain HTTP address that is not allowed."""
    return MissingError(
        f"{without_secrets(url)} is refused: without TLS, anyone on the network can read and change the data",
        id="plain-http-refused",
        hint="Use an https:// address. Plain HTTP is accepted only for mirrors at localhost or a private address.",
    )


def tls_expected_error(url: str) -> MissingError:
    """Return the error for a server that answers only over TLS."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return MissingError(
        f"{host} requires TLS, and {without_secrets(url)} is plain HTTP",
        id="source-expects-tls",
        hint="Write https: instead of http: where the mirror is configured.",
    )


def proxy_refused_error(where: str, variable: str, reason: str) -> MissingError:
    """Return the error for a proxy that refuses a request."""
    return MissingError(
        f"{where} refused the connection: {reason}",
        id="proxy-refused",
        hint=f"Write its user and password into {variable} (http://USER:PASSWORD@proxy.example:3128), or exclude the host with NO_PROXY.",
    )


def _from_proxy_error(error: exceptions.ProxyError, proxy: tuple[str, str] | None) -> MissingError:
    variable, value = proxy or ("a proxy variable", "")
    where = f"the proxy {without_login(value)} ({variable})"
    if status := re.search(r"Tunnel connection failed: (\d{3}.*)", str(error.original_error)):
        return proxy_refused_error(where, variable, status[1])
    return MissingError(
        f"{where} cannot be used: {_reason(error.original_error)}",
        id="proxy-unreachable",
        hint=f"Correct or unset {variable}, or exclude the host with NO_PROXY.",
    )


def _from_tls_error(error: exceptions.SSLError, url: str) -> MissingError:
    host, cause = urlsplit(url).netloc.rpartition("@")[2], error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return MissingError(
            f"the certificate of {host} is not trusted: {cause.verify_message}",
            id="certificate-untrusted",
            hint="If your company's CA signed it, add that CA to the system's store (`update-ca-certificates`, `update-ca-trust`),"
            " or name a file with all CAs in SSL_CERT_FILE. If not, something between you and the server intercepts the connection.",
        )
    if any(word in str(cause) for word in _NO_TLS):
        entry = f"{host}=http://{host}"
        return MissingError(
            f"{host} does not support TLS, which {without_secrets(url)} needs",
            id="source-without-tls",
            hint=f"If it has a private address, allow plain HTTP: LABCTL_MIRRORS={entry}.",
        )
    return TransientError(f"{without_secrets(url)}: TLS failed: {_reason(cause)}", id="source-cut-off", hint=AGAIN)


def _reason(error: BaseException) -> str:
    """Return the innermost reason: urllib3's own messages contain addresses of objects."""
    while inner := next((each for each in (error.__cause__, *error.args) if isinstance(each, BaseException)), None):
        error = inner
    if isinstance(error, exceptions.IncompleteRead):
        return f"{error.expected} bytes are missing"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
