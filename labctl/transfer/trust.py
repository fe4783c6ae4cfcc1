"""Trusted CA certificates: the system's store, or the one that SSL_CERT_FILE and SSL_CERT_DIR name."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from labctl.model.errors import MissingError

FILE = "SSL_CERT_FILE"
STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""The stores of Debian, Fedora, openSUSE, macOS and Alpine, for a Python that was built on another system."""


def context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Return the TLS context that verifies servers. Raises MissingError `certificates-unreadable`."""
    context = ssl.create_default_context()
    # Python 3.13 rejects a CA without an Authority Key Identifier, which company CAs often lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if named := environment.get(FILE):
        _load(context, Path(named))
    elif not any(ssl.get_default_verify_paths()[:2]) and (file := store(environment)):
        context.load_verify_locations(file)
    return context


def store(environment: Mapping[str, str]) -> Path | None:
    """Return the file of trusted certificates; None if the system has none."""
    files = (Path(path) for path in (environment.get(FILE), *STORES) if path)
    return next((path for path in files if path.is_file()), None)


def _load(context: ssl.SSLContext, path: Path) -> None:
    """Load a file, which OpenSSL alone would silently ignore if it cannot be read."""
    try:
        context.load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise MissingError(
            f"{FILE}={path}: {reason}",
            id="certificates-unreadable",
            hint=f"Name a PEM file with every CA that you trust, or unset {FILE} to use the system's.",
        ) from error
