"""A relay of TCP connections to a server on loopback, which counts bytes, and can be cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from fault_server import LOOPBACK


@dataclass
class Wire:
    """How many bytes went each way, and how many may yet go to the server or from it."""

    host: str = ""
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

    def reset(self) -> None:
        """Count from the beginning, on a whole wire."""
        with self.lock:
            self.sent, self.received, self.left = 0, 0, None


@contextmanager
def relayed(port: int) -> Iterator[Wire]:
    """Relay what comes to `host`, a free port, to this port."""
    with socket.create_server((LOOPBACK, 0)) as server:
        wire = Wire(f"{LOOPBACK}:{server.getsockname()[1]}")
        threading.Thread(target=_accept, args=(server, port, wire), daemon=True).start()
        yield wire


def _accept(server: socket.socket, port: int, wire: Wire) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            try:
                target = socket.create_connection((LOOPBACK, port))
            except OSError:
                client.close()
                continue
            for end in (client, target):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
