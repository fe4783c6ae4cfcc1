"""Fetch blobs into the store, several in parallel, and resume interrupted downloads."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from labctl.host.caller import give_to_caller
from labctl.host.disk_space import require_room
from labctl.host.locks import try_lock
from labctl.host.wait import Pending, until
from labctl.model.events import Progress
from labctl.transfer.client import Client
from labctl.transfer.download import Arrival, Wanted
from labctl.transfer.meter import Meter
from labctl.transfer.parallel import StoppedError, run_in_parallel
from labctl.transfer.store import Blob, BlobStore

__all__ = ["Wanted", "fetch"]


def fetch(wanted: Sequence[Wanted], store: BlobStore, report: Progress) -> tuple[Blob, ...]:
    """Fetch the files that the store lacks; return all of them, in order.

    Raises LabError for the first failure. Bytes received by then, or before Ctrl-C, are kept.
    """
    blobs = {_key(each): blob for each in wanted if (blob := _find_stored(each, store))}
    missing = {_key(each): each for each in wanted if _key(each) not in blobs}
    if missing:
        _check_room(missing.values(), store)
        largest_first = sorted(missing.values(), key=lambda each: each.size or 0, reverse=True)
        blobs |= zip(map(_key, largest_first), _Fetching(largest_first, store, report).run(), strict=True)
    return tuple(blobs[_key(each)] for each in wanted)


class _Fetching:
    """The state that the fetching threads share."""

    def __init__(self, wanted: Sequence[Wanted], store: BlobStore, report: Progress) -> None:
        self._store = store
        doing = f"fetching {wanted[0].name}" if len(wanted) == 1 else f"fetching {len(wanted)} files"
        self._meter = Meter(doing, sum(each.size or 0 for each in wanted), report)
        self._stopped = threading.Event()
        self._client = Client(self._meter.note, sleep=self._sleep, named=[each.url for each in wanted])
        self._wanted = wanted

    def run(self) -> list[Blob]:
        """Fetch the blobs; return them in order."""
        try:
            return run_in_parallel(self._fetch, self._wanted, stop=self._stop, tick=self._meter.tick)
        finally:
            self._client.stop()

    def _fetch(self, wanted: Wanted) -> Blob:
        with self._alone(wanted) as file:
            if stored := _find_stored(wanted, self._store):  # the labctl that held the lock has fetched it
                Path(file.name).unlink()
                return stored
            arrival = Arrival(wanted, file, self._meter)
            arrival.complete(self._client, self._client.retries(), self._check)
            self._store.adopt(Path(file.name), arrival.digest)
            return Blob(arrival.digest, arrival.size)

    @contextmanager
    def _alone(self, wanted: Wanted) -> Iterator[BinaryIO]:
        """Lock and open the partial file of a blob; wait for another process that fetches the same blob."""
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
            give_to_caller(path)
            yield file

    def _stop(self) -> None:
        self._stopped.set()
        self._client.stop()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise StoppedError

    def _sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)
        self._check()


def _key(wanted: Wanted) -> str:
    return wanted.digest or wanted.url


def _name(url: str) -> str:
    """Return a stand-in for an unknown digest, to name the partial file."""
    return f"sha256:{hashlib.sha256(url.encode()).hexdigest()}"


def _find_stored(wanted: Wanted, store: BlobStore) -> Blob | None:
    if wanted.digest is None or not store.has(wanted.digest):
        return None
    return Blob(wanted.digest, store.path(wanted.digest).stat().st_size)


def _check_room(missing: Iterable[Wanted], store: BlobStore) -> None:
    """Raise MissingError `disk-full` if the disk has no room for the missing files of known size."""
    needed = 0
    for each in missing:
        path = store.partial(each.digest or _name(each.url))
        needed += max(0, (each.size or 0) - (path.stat().st_size if path.exists() else 0))
    require_room(store.folder, needed, "the download")
