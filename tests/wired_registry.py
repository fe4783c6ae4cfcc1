"""Debian's docker-registry with TLS and a password, and a wire to it that counts, and can be cut."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import packages
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from labctl.host.wait import Pending, until
from labctl.render.certificates import new_key, pem

PROGRAM = "docker-registry"
USER, PASSWORD = "class", "room"
_BCRYPT = "$2b$04$labctlTestsSaltSaltSae3sBa1WwZi9EB5Lofm4qAoxEbdQKrv1K"
"""PASSWORD, as cheaply as bcrypt allows."""
_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  tls: {{certificate: {folder}/certificate.pem, key: {folder}/key.pem}}
auth:
  htpasswd: {{realm: labs, path: {folder}/htpasswd}}
"""


@dataclass
class Wire:
    """A relay of TCP connections: how many bytes went each way, and how many may yet go to the registry or from it."""

    port: int = 0
    sent: int = 0
    received: int = 0
    left: int | None = None
    """Bytes until the wire is cut, once; None while it is whole."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, size: int, *, is_sent: bool) -> bool:
        """Count bytes; return whether they may go."""
        with self.lock:
            if self.left is not None:
                self.left -= size
                if self.left < 0:
                    return False
            self.sent += size * is_sent
            self.received += size * (not is_sent)
            return True

    def forget(self) -> None:
        """Count from the beginning, on a whole wire."""
        with self.lock:
            self.sent, self.received, self.left = 0, 0, None


@dataclass
class DockerRegistry:
    """A registry with its data in a folder; `wire` is what clients connect to."""

    folder: Path
    port: int
    wire: Wire
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.wire.port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen([PROGRAM, "serve", self.folder / "config.yml"], stderr=subprocess.DEVNULL)
        until(self._listens, what=PROGRAM, timeout=20, interval=0.02)

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def blob(self, digest: str) -> Path:
        """Return the file in which it keeps a blob."""
        name = digest.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def log_in(self, folder: Path, password: str = PASSWORD) -> None:
        """Write what `docker login` writes."""
        folder.mkdir(exist_ok=True)
        secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": secret}}}))

    def _listens(self) -> bool | Pending:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return Pending("it does not listen yet")


@contextmanager
def registry(folder: Path) -> Iterator[DockerRegistry]:
    """A registry that runs, and a wire to it."""
    packages.bring((PROGRAM,), (PROGRAM,))
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=port))
    (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    _certify(folder)
    with _relayed(port) as wire:
        served = DockerRegistry(folder, port, wire)
        served.start()
        try:
            yield served
        finally:
            served.kill()


@contextmanager
def _relayed(port: int) -> Iterator[Wire]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = Wire(server.getsockname()[1])
        threading.Thread(target=_accept, args=(server, port, wire), daemon=True).start()
        yield wire


def _accept(server: socket.socket, port: int, wire: Wire) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            try:
                target = socket.create_connection(("127.0.0.1", port))
            except OSError:
                client.close()
                continue
            for ends in ((client, target, True), (target, client, False)):
                threading.Thread(target=_pass_on, args=(*ends, wire), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, is_sent: bool, wire: Wire) -> None:  # noqa: FBT001 - a direction
    with suppress(OSError):
        while (data := source.recv(1 << 14)) and wire.count(len(data), is_sent=is_sent):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _certify(folder: Path) -> None:
    key, now = new_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a class room")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(pem(key))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
