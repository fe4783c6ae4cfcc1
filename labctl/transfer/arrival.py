"""One blob that arrives: its first bytes, which a file keeps, and the rest, from wherever it was cut off."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from labctl.host.room import FULL, no_room
from labctl.model.errors import MissingError
from labctl.transfer import refusals
from labctl.transfer.client import Client, Response
from labctl.transfer.exchange import Request
from labctl.transfer.failures import PassingError, shown
from labctl.transfer.login import Login
from labctl.transfer.meter import Meter
from labctl.transfer.retries import Retries

CHUNK = 1 << 18
_PARTIAL, _NOT_IN_RANGE = 206, 416
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something to fetch: what people call it, where it is, and what is known of it.

    Without a digest it is fetched every time, and taken as it comes.
    """

    name: str
    url: str
    digest: str | None = None
    size: int | None = None
    login: Login | None = field(default=None, compare=False)
    """How to log in, if not with the user's credentials for the URL's host."""


class Arrival:
    """A blob on its way into a file that nobody else writes."""

    def __init__(self, wanted: Wanted, file: BinaryIO, meter: Meter) -> None:
        self._wanted = wanted
        self._file = file
        self._meter = meter
        self._size = wanted.size
        self._hash = hashlib.sha256()
        self._offset = self._furthest = 0
        self._validator = ""

    @property
    def digest(self) -> str:
        """The digest of what has arrived."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return self._offset

    def complete(self, client: Client, retries: Retries, check: Callable[[], object]) -> None:
        """Fetch what is missing, and hold it to the digest. `check` is called after each chunk, and may raise.

        Bytes that an earlier run left, and that turn out to be wrong, are fetched again once. Raises MissingError.
        """
        was_there = self._resume()
        login = self._wanted.login or client.login(self._wanted.url)
        while True:
            try:
                while self._offset != self._size:
                    self._receive(client, login, retries, check)
            except PassingError as error:
                retries.pause(error)
                continue
            if self._wanted.digest in {None, self.digest}:
                break
            failure = self._mismatch()
            self._restart()
            if not was_there:
                raise failure
            was_there = False
        self._write_through()

    def _resume(self) -> bool:
        """Take over what an earlier run left, and return whether there was something."""
        self._file.seek(0)
        if self._wanted.digest is None:  # what an earlier run left may be another version's
            os.ftruncate(self._file.fileno(), 0)
        while chunk := self._file.read(CHUNK):
            self._hash.update(chunk)
            self._offset += len(chunk)
        self._meter.start_at(self._offset)
        if self._size is not None and self._offset > self._size:
            self._restart()
        self._furthest = self._offset
        return self._offset > 0

    def _restart(self) -> None:
        self._meter.add(-self._offset)
        os.ftruncate(self._file.fileno(), 0)
        self._hash, self._offset, self._validator = hashlib.sha256(), 0, ""

    def _receive(self, client: Client, login: Login, retries: Retries, check: Callable[[], object]) -> None:
        headers: dict[str, str] = {}
        if self._wanted.digest is None and not self._validator:  # the rest could be another version's
            self._restart()
        if self._offset:
            headers["Range"] = f"bytes={self._offset}-"
            if self._validator:
                headers["If-Range"] = self._validator
        request = Request("GET", self._wanted.url, headers)
        with client.open(request, login, fine=[_NOT_IN_RANGE] if self._offset else []) as response:
            if not self._begin(response):
                return
            while chunk := response.read1(CHUNK, decode_content=False):
                check()
                if not self._offset and refusals.is_page({}, chunk):
                    raise refusals.captive(self._wanted.url)
                self._take(chunk)
                if self._offset > self._furthest:
                    self._furthest = self._offset
                    retries.progressed()
        if self._size is None:
            self._size = self._offset
        if self._offset < self._size:
            raise PassingError(
                f"{shown(self._wanted.url)}: the connection was lost after {self._offset} of {self._size} bytes",
                id="source-cut-off",
                hint="Run the same command again; received data is kept.",
            )

    def _begin(self, response: Response) -> bool:
        """Go to where the answer's content belongs; return whether it has any."""
        start, total = _range(response)
        if start not in {0, self._offset}:
            if not self._offset:
                raise PassingError(
                    f"{shown(self._wanted.url)}: the server sent a different part than requested",
                    id="source-confused",
                    hint="Run the same command again; if the error persists, check the source.",
                )
            if response.status == _NOT_IN_RANGE and total == self._offset:  # nothing was missing
                self._size = total
            else:
                self._restart()
            return False
        if start != self._offset:
            self._restart()
        if total is not None and self._size is None:
            self._meter.expect(total)
            self._size = total
        if total not in {None, self._size}:
            raise self._wrong_size(f"{total}")
        self._validator = _validator(response)
        return True

    def _take(self, chunk: bytes) -> None:
        if self._size is not None and self._offset + len(chunk) > self._size:
            raise self._wrong_size("more")
        try:
            _write(self._file.fileno(), chunk)
        except OSError as error:
            raise self._not_written(error) from error
        self._hash.update(chunk)
        self._offset += len(chunk)
        self._meter.add(len(chunk))

    def _write_through(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> OSError | MissingError:
        """Return the error for a disk that is full; else the same one, with the file's name."""
        path = Path(self._file.name)
        if error.errno not in FULL:
            return OSError(error.errno, error.strerror, str(path))
        return no_room(path.parent, max(0, (self._size or 0) - self._offset), f"the rest of {self._wanted.name}")

    def _wrong_size(self, size: str) -> MissingError:
        return MissingError(
            f"{self._wanted.name} from {shown(self._wanted.url)} has {size} bytes instead of {self._size}",
            id="size-mismatch",
            hint="It is a different file. Check the version. If the host has a mirror, check the mirror's file.",
        )

    def _mismatch(self) -> MissingError:
        return MissingError(
            f"{self._wanted.name} from {shown(self._wanted.url)} has the digest {self.digest} instead of {self._wanted.digest}",
            id="digest-mismatch",
            hint="The file is damaged or was replaced. Run the same command again; if the error persists, check the source.",
        )


def _write(descriptor: int, content: bytes) -> None:
    """Write past Python's buffer, which would keep what a full disk refuses."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _range(response: Response) -> tuple[int, int | None]:
    """Return where the answer's content begins in the whole, and how long the whole is, if it says so."""
    if response.status in {_PARTIAL, _NOT_IN_RANGE}:
        said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        start, total = said.groups() if said else (None, None)
        return int(start) if start else -1, int(total) if total and total != "*" else None
    length = _LENGTH.fullmatch(response.headers.get("Content-Length", ""))
    return 0, int(length[0]) if length else None


def _validator(response: Response) -> str:
    """Return what holds a later request for the rest to this same content: a strong ETag, or nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""
