"""Connections to a host within one time limit for the lookup of its name and all of its addresses."""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from typing import Self, TypeAlias

STAGGER_SECONDS = 0.25
"""How long an address is tried alone: one that is unreachable, as with broken IPv6, delays the next by no more."""

_Address: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, tuple[str | int | bytes, ...]]


def dial(host: str, port: int, seconds: float) -> socket.socket:
    """Return a connection to the first address of the host that answers.

    Raises socket.gaierror if the name has no address, TimeoutError, or the OSError of the last address.
    """
    deadline = time.monotonic() + seconds
    waiting, failure = deque(_addresses(host, port, seconds)), OSError("it has no address")
    with _Attempts() as attempts:
        while (left := deadline - time.monotonic()) > 0 and (waiting or attempts):
            if waiting:
                failure = attempts.begin(waiting.popleft()) or failure
            connected, error = attempts.ended(min(left, STAGGER_SECONDS if waiting else left))
            if connected:
                return connected
            failure = error or failure
        if not attempts and not waiting:
            raise failure
    raise TimeoutError(f"no answer within {seconds:.0f} s")


class _Attempts:
    """Pending connection attempts."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets: set[socket.socket] = set()

    def __len__(self) -> int:
        return len(self._sockets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._selector.close()
        for each in self._sockets:
            each.close()

    def begin(self, address: _Address) -> OSError | None:
        """Start to connect; return the error if that fails at once. `ended` returns the result later."""
        family, kind, protocol, place = address
        try:
            attempt = socket.socket(family, kind, protocol)
        except OSError as error:  # IPv6 is disabled, but names still resolve to IPv6 addresses
            return error
        attempt.setblocking(False)
        if (number := attempt.connect_ex(place)) not in {0, errno.EINPROGRESS}:
            attempt.close()
            return OSError(number, os.strerror(number))
        self._sockets.add(attempt)
        self._selector.register(attempt, selectors.EVENT_WRITE)
        return None

    def ended(self, seconds: float) -> tuple[socket.socket | None, OSError | None]:
        """Return a connection established within the time, else the error of a failed one; None if none ended."""
        if not self._sockets:
            return None, None
        failure = None
        for key, _ in self._selector.select(seconds):
            (attempt,) = (each for each in self._sockets if each is key.fileobj)
            self._selector.unregister(attempt)
            self._sockets.remove(attempt)
            if not (number := attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                return attempt, None
            attempt.close()
            failure = OSError(number, os.strerror(number))
        return None, failure


def _addresses(host: str, port: int, seconds: float) -> list[_Address]:
    """Query the system's resolver in a thread: it may take minutes and cannot be interrupted."""
    answers: queue.SimpleQueue[list[_Address] | OSError | UnicodeError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.put(error)
        else:
            answers.put([(family, kind, protocol, place) for family, kind, protocol, _, place in entries])

    threading.Thread(target=resolve, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_AGAIN, f"the resolver did not answer within {seconds:.0f} s") from None
    if isinstance(answer, list):
        return answer
    raise answer if isinstance(answer, OSError) else socket.gaierror(socket.EAI_NONAME, str(answer))
