"""Download of one blob into a file, resumed where an earlier attempt stopped."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from labctl.host.disk_space import FULL, no_room_error
from labctl.model.errors import MissingError
from labctl.transfer import refusals
from labctl.transfer.client import Client, Response
from labctl.transfer.exchange import Request
from labctl.transfer.failures import TransientError, without_secrets
from labctl.transfer.login import Login
from labctl.transfer.meter import Meter
from labctl.transfer.retries import Retries

CHUNK = 1 << 18
_PARTIAL, _NOT_IN_RANGE = 206, 416
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch: its display name, its URL and, where known, its digest and size.

    Without a digest it is fetched every time, and its content is not verified.
    """

    name: str
    url: str
    digest: str | None = None
    size: int | None = None
    login: Login | None = field(default=None, compare=False)
    """The login to use instead of the user's credentials for the URL's host."""


class Arrival:
    """A blob that is downloaded into a file that nothing else writes."""

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
        """The digest of the received bytes."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def size(self) -> int:
        """The number of received bytes."""
        return self._offset

    def complete(self, client: Client, retries: Retries, check: Callable[[], object]) -> None:
        """Fetch the missing bytes and verify the digest. Call `check` after each chunk is read; it may raise.

        If the digest differs and an earlier run left bytes, fetch the whole blob once more. Raises MissingError.
        """
        was_there = self._resume()
        login = self._wanted.login or client.login(self._wanted.url)
        while True:
            try:
                while self._offset != self._size:
                    self._receive(client, login, retries, check)
            except TransientError as error:
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
        """Keep the bytes that an earlier run left; return whether there are any."""
        self._file.seek(0)
        if self._wanted.digest is None:  # an earlier run may have left bytes of another version
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
        if self._wanted.digest is None and not self._validator:  # the remaining bytes could belong to another version
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
                    raise refusals.captive_portal_error(self._wanted.url)
                self._take(chunk)
                if self._offset > self._furthest:
                    self._furthest = self._offset
                    retries.progressed()
        if self._size is None:
            self._size = self._offset
        if self._offset < self._size:
            raise TransientError(
                f"{without_secrets(self._wanted.url)}: the connection was lost after {self._offset} of {self._size} bytes",
                id="source-cut-off",
                hint="Run the same command again; received data is kept.",
            )

    def _begin(self, response: Response) -> bool:
        """Prepare to append the response's content, restarting if it starts at byte 0; return whether to read it."""
        start, total = _range(response)
        if start not in {0, self._offset}:
            if not self._offset:
                raise TransientError(
                    f"{without_secrets(self._wanted.url)}: the server sent a different part than requested",
                    id="source-confused",
                    hint="Run the same command again; if the error persists, check the source.",
                )
            if response.status == _NOT_IN_RANGE and total == self._offset:  # the file was complete
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
        """Return the error for a full disk; for any other failure, the same error with the file's name."""
        path = Path(self._file.name)
        if error.errno not in FULL:
            return OSError(error.errno, error.strerror, str(path))
        return no_room_error(path.parent, max(0, (self._size or 0) - self._offset), f"the rest of {self._wanted.name}")

    def _wrong_size(self, size: str) -> MissingError:
        return MissingError(
            f"{self._wanted.name} from {without_secrets(self._wanted.url)} has {size} bytes instead of {self._size}",
            id="size-mismatch",
            hint="It is a different file. Check the version. If the host has a mirror, check the mirror's file.",
        )

    def _mismatch(self) -> MissingError:
        return MissingError(
            f"{self._wanted.name} from {without_secrets(self._wanted.url)} has the digest {self.digest} instead of {self._wanted.digest}",
            id="digest-mismatch",
            hint="The file is damaged or was replaced. Run the same command again; if the error persists, check the source.",
        )


def _write(descriptor: int, content: bytes) -> None:
    """Write without Python's buffer, which would keep the bytes that a full disk refuses."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _range(response: Response) -> tuple[int, int | None]:
    """Return the offset of the response's content, -1 if unknown, and the total size, None if unknown."""
    if response.status in {_PARTIAL, _NOT_IN_RANGE}:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        start, total = match.groups() if match else (None, None)
        return int(start) if start else -1, int(total) if total and total != "*" else None
    length = _LENGTH.fullmatch(response.headers.get("Content-Length", ""))
    return 0, int(length[0]) if length else None


def _validator(response: Response) -> str:
    """Return the strong ETag, which lets If-Range resume this same content only; empty if there is none."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""
