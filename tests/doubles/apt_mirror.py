"""A mirror of Debian's packages inside a network namespace without an uplink."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from labctl.isolation import namespaces

ORIGIN = "http://deb.debian.org"
SECONDS = 60.0


@dataclass
class Mirror:
    """The mirror's URL in the namespace, and the requested paths."""

    url: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def apt_mirror(namespace: Path, certificate: Path, key: Path) -> Iterator[Mirror]:
    """Serve Debian's mirror over TLS on the namespace's loopback; this machine fetches the files."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        listening = pool.submit(_listening, namespace).result()
    mirror = Mirror(f"https://127.0.0.1:{listening.getsockname()[1]}")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            mirror.requests.append(self.path)
            response = requests.get(ORIGIN + self.path, timeout=SECONDS)
            self.send_response(response.status_code)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_words: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()


def _listening(namespace: Path) -> socket.socket:
    """Return a listening socket of the namespace; it stays in the namespace whichever thread uses it."""
    namespaces.enter(namespace, namespace / "no settings")
    return socket.create_server(("127.0.0.1", 0))
