"""Fetch blobs into the store: several at a time, each from where an earlier run was cut off."""

from __future__ import annotations

import hashlib
import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from labctl.host.caller import give
from labctl.host.locks import try_lock
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer.arrival import Arrival, Wanted
from labctl.transfer.client import Client
from labctl.transfer.meter import MIB, Meter
from labctl.transfer.store import Blob, BlobStore

__all__ = ["Wanted", "fetch"]

THREADS = 4
TICK_SECONDS = 0.2
END_SECONDS = 2.0
"""How long threads may take to notice that they should end. One that waits for an answer ends with the process."""


def fetch(wanted: Sequence[Wanted], store: BlobStore, report: Progress) -> tuple[Blob, ...]:
    """Fetch what the store does not have; return all of it, in order.

    Raises LabError for the first failure. What has arrived by then, or until Ctrl-C, is kept.
    """
    blobs = {_key(each): blob for each in wanted if (blob := _stored(each, store))}
    missing = {_key(each): each for each in wanted if _key(each) not in blobs}
    if missing:
        _check_room(missing.values(), store)
        blobs |= _Crew(missing.values(), store, report).run()
    return tuple(blobs[_key(each)] for each in wanted)


class _StoppedError(Exception):
    """The transfer ends, for a reason that another thread has."""


class _Crew:
    """Threads that fetch."""

    def __init__(self, wanted: Iterable[Wanted], store: BlobStore, report: Progress) -> None:
        by_size = sorted(wanted, key=lambda each: each.size or 0, reverse=True)
        self._waiting = deque(by_size)
        self._store = store
        doing = f"fetching {by_size[0].name}" if len(by_size) == 1 else f"fetching {len(by_size)} files"
        self._meter = Meter(doing, sum(each.size or 0 for each in by_size), report)
        self._stop = threading.Event()
        self._client = Client(self._meter.note, sleep=self._sleep, named=[each.url for each in by_size])
        self._blobs: dict[str, Blob] = {}
        self._failures: list[BaseException] = []

    def run(self) -> dict[str, Blob]:
        """Return the blobs, by what is wanted."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(THREADS, len(self._waiting)))]
        for thread in threads:
            thread.start()
        try:
            while (alive := [thread for thread in threads if thread.is_alive()]) and not self._failures:
                alive[0].join(TICK_SECONDS)
                self._meter.tick()
        finally:
            self._stop.set()
            self._client.stop()
            deadline = time.monotonic() + END_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._failures:
            raise self._failures[0]
        return self._blobs

    def _work(self) -> None:
        with suppress(IndexError):  # another thread has taken the last one
            while not self._stop.is_set():
                wanted = self._waiting.popleft()
                try:
                    self._fetch(wanted)
                except _StoppedError:  # another thread has failed
                    return
                except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
                    self._failures.append(error)
                    self._stop.set()

    def _fetch(self, wanted: Wanted) -> None:
        with self._alone(wanted) as file:
            if stored := _stored(wanted, self._store):  # by whoever was waited for
                Path(file.name).unlink()
                self._blobs[_key(wanted)] = stored
                return
            arrival = Arrival(wanted, file, self._meter)
            arrival.complete(self._client, self._client.retries(), self._check)
            self._store.adopt(Path(file.name), arrival.digest)
            self._blobs[_key(wanted)] = Blob(arrival.digest, arrival.size)

    @contextmanager
    def _alone(self, wanted: Wanted) -> Iterator[BinaryIO]:
        """Open the file for the first bytes of a blob; wait for another process that fetches the same."""
        path = self._store.partial(wanted.digest or _name(wanted.url))

        is_told = False

        def opened() -> BinaryIO | Pending:
            nonlocal is_told
            file = try_lock(path, "a+b")
            if isinstance(file, Pending) and not is_told:
                self._meter.note(f"waiting for another labctl that fetches {wanted.name}")
                is_told = True
            return file

        with until(opened, what=f"the lock {path}", timeout=math.inf, sleep=self._sleep) as file:
            give(path)
            yield file

    def _check(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self._check()


def _key(wanted: Wanted) -> str:
    return wanted.digest or wanted.url


def _name(url: str) -> str:
    """Return a name for the first bytes of something whose digest is not known."""
    return f"sha256:{hashlib.sha256(url.encode()).hexdigest()}"


def _stored(wanted: Wanted, store: BlobStore) -> Blob | None:
    if wanted.digest is None or not store.has(wanted.digest):
        return None
    return Blob(wanted.digest, store.path(wanted.digest).stat().st_size)


def _check_room(missing: Iterable[Wanted], store: BlobStore) -> None:
    """Raise MissingError if the disk cannot hold what is known to be missing."""
    needed = 0
    for each in missing:
        path = store.partial(each.digest or _name(each.url))
        needed += max(0, (each.size or 0) - (path.stat().st_size if path.exists() else 0))
    free = shutil.disk_usage(store.folder).free
    if needed > free:
        raise MissingError(
            f"{store.folder} has no room: {free / MIB:.0f} MiB are free, {needed / MIB:.0f} MiB are to be fetched",
            id="disk-full",
            hint="Make space there, or set XDG_CACHE_HOME to a folder on another disk; then run the same command again.",
        )
