"""Debian's docker-registry on this machine, with or without TLS and a password; it can be killed and started again."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import packages
import yaml
from certificates_for import self_signed
from fault_server import LOOPBACK, free_port

from labctl.host.wait import Pending, until

PROGRAM = "docker-registry"
USER, PASSWORD = "class", "room"
_BCRYPT = "$2b$04$labctlTestsSaltSaltSae3sBa1WwZi9EB5Lofm4qAoxEbdQKrv1K"
"""PASSWORD, hashed with the lowest cost; the registry accepts bcrypt hashes only."""


class DockerRegistry:
    """A registry that stores its data in a folder."""

    def __init__(
        self, folder: Path, *, is_guarded: bool, certificate: tuple[Path, Path] | None = None, address: str = LOOPBACK
    ) -> None:
        self._place = (address, free_port())
        self.port = self._place[1]
        self.host = f"{address}:{self.port}"
        self.url = f"http{'s' if is_guarded or certificate else ''}://{self.host}"
        self.certificate = folder / "server.crt"
        self._folder = folder
        self._program: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": "tests"},
        }
        if is_guarded:
            certificate = certificate or self_signed(folder)
            settings["auth"] = {"htpasswd": {"realm": "labs", "path": str(folder / "htpasswd")}}
            (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n", encoding="utf-8")
        if certificate:
            settings["http"]["tls"] = dict(zip(("certificate", "key"), map(str, certificate), strict=True))
        (folder / "config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    @property
    def is_running(self) -> bool:
        return self._program is not None and self._program.poll() is None

    @property
    def request_count(self) -> int:
        """The number of requests in its log."""
        return (self._folder / "log").read_text(encoding="utf-8").count(' HTTP/1.1" ')

    def start(self) -> None:
        """Start the registry, and wait until it listens."""
        with (self._folder / "log").open("ab") as log:
            command = [PROGRAM, "serve", str(self._folder / "config.yml")]
            self._program = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._listens, what=f"{PROGRAM}, whose log is {self._folder / 'log'}", timeout=20, interval=0.02)

    def kill(self) -> None:
        """Kill the registry without a clean shutdown."""
        assert self._program is not None
        self._program.kill()
        self._program.wait()

    def blob(self, digest: str) -> Path:
        """Return the file of a blob."""
        name = digest.removeprefix("sha256:")
        return self._folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def _listens(self) -> bool | Pending:
        assert self.is_running, (self._folder / "log").read_text(encoding="utf-8")
        with suppress(OSError), socket.create_connection(self._place, timeout=1):
            return True
        return Pending("it does not listen")


@contextmanager
def running(
    folder: Path,
    *,
    is_guarded: bool = True,
    certificate: tuple[Path, Path] | None = None,
    address: str = LOOPBACK,
) -> Iterator[DockerRegistry]:
    """Run a registry, which is installed if missing. With a certificate it uses TLS, with or without a password."""
    packages.install((PROGRAM,), (PROGRAM,))
    registry = DockerRegistry(folder, is_guarded=is_guarded, certificate=certificate, address=address)
    try:
        registry.start()
        yield registry
    finally:
        registry.kill()


def log_in(folder: Path, host: str, password: str = PASSWORD) -> None:
    """Write a config.json as `docker login` does."""
    folder.mkdir(exist_ok=True)
    secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}), encoding="utf-8")
