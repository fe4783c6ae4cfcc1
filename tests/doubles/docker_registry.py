"""Debian's docker-registry on loopback, with TLS and a password; it can die and come again."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import packages
from certificates_for import self_signed
from fault_server import free_port

from labctl.host.wait import Pending, until

PROGRAM = "docker-registry"
USER, PASSWORD = "me", "secret"
HASH = "$2y$04$fpn/EgxpE79ByZ3Wr6yo7esv1M6KD2LxHWdE4Av9RlMHOhckas1Kq"
"""Of the password, by bcrypt, which is the only one that the registry knows."""
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
auth: {{htpasswd: {{realm: registry, path: {folder}/htpasswd}}}}
http: {{addr: "127.0.0.1:{port}", secret: tests, tls: {{certificate: {certificate}, key: {key}}}}}
"""


class DockerRegistry:
    """A registry, and where its certificate is."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.certificate, key = self_signed(folder)
        self._config = folder / "config.yml"
        self._config.write_text(
            CONFIG.format(folder=folder, port=self.port, certificate=self.certificate, key=key), encoding="utf-8"
        )
        (folder / "htpasswd").write_text(f"{USER}:{HASH}\n", encoding="utf-8")
        self._program: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        command = [PROGRAM, "serve", str(self._config)]
        self._program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, what=PROGRAM, timeout=20, interval=0.02)
        return self

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._program:
            self._program.kill()
            self._program.wait()

    def _listens(self) -> bool | Pending:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0 or Pending("it does not listen")


@contextmanager
def running(folder: Path) -> Iterator[DockerRegistry]:
    """The registry runs meanwhile; it is installed if it is missing."""
    packages.bring((PROGRAM,), (PROGRAM,))
    registry = DockerRegistry(folder)
    try:
        yield registry.start()
    finally:
        registry.kill()
