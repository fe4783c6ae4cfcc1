"""Push of one blob in an upload session, resumed after a lost connection at the offset that the registry reports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer.client import Client, joined
from labctl.transfer.exchange import Request
from labctl.transfer.failures import TransientError, plain_http_error, without_secrets
from labctl.transfer.login import Login
from labctl.transfer.meter import Meter
from labctl.transfer.refusals import NOT_FOUND, OK, TOO_MANY

CHUNK = 1 << 18
BYTES = "application/octet-stream"
VERIFYING_SECONDS = 120.0
"""The read timeout once all bytes are sent: some registries then copy the blob to its final place, and a proxy in front
of one may buffer all of it before passing it on."""
_NO_CONTENT, _BAD_REQUEST, _NOT_ALLOWED, _NOT_IN_RANGE = 204, 400, 405, 416
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})", re.ASCII)


class Upload:
    """An upload of a file to the repository whose blobs are below the URL `blobs`."""

    def __init__(self, client: Client, login: Login, blobs: str, digest: str, path: Path) -> None:
        self._client = client
        self._login = login
        self._blobs = blobs
        self._digest = digest
        self._path = path
        self._size = path.stat().st_size
        self._session = ""
        self._is_resumed = False
        self._offset = self._furthest = 0

    def complete(self, doing: str, report: Progress) -> None:
        """Push the whole file. Raises LabError."""
        retries = self._client.retries()
        meter = Meter(doing, self._size, report)
        while True:
            try:
                if not self._session:
                    self._begin(meter)
                while self._offset < self._size:
                    self._send(meter)
                self._end()
            except TransientError as error:
                retries.pause(error)
                if self._has_blob():  # only the response was lost
                    return
                self._find(meter)
                if self._offset > self._furthest:
                    self._furthest = self._offset
                    retries.progressed()
            else:
                return

    @property
    def _restarts(self) -> tuple[int, ...]:
        """The statuses that restart the upload: many registries reject a resume at the offset that they report."""
        lost = (NOT_FOUND, _NOT_IN_RANGE)
        return (*lost, _BAD_REQUEST, _NOT_ALLOWED) if self._is_resumed else lost

    def _begin(self, meter: Meter) -> None:
        url = f"{self._blobs}/uploads/"
        answer = self._client.send(Request("POST", url, {"Content-Length": "0"}), login=self._login)
        self._move(meter, 0)
        self._is_resumed = False
        self._follow(url, answer.headers)

    def _send(self, meter: Meter) -> None:
        """Send the bytes that the registry lacks, in one request."""
        headers = {"Content-Type": BYTES, "Content-Length": str(self._size - self._offset)}
        if self._offset:
            headers["Content-Range"] = f"{self._offset}-{self._size - 1}"
        content = partial(self._pieces, meter, self._offset)
        request = Request("PATCH", self._session, headers, content, silence=VERIFYING_SECONDS)
        with self._client.open(request, self._login, fine=self._restarts) as response:
            if response.status in self._restarts:
                raise self._lost_session()
            self._move(meter, self._size)
            self._follow(self._session, response.headers)

    def _end(self) -> None:
        url = f"{self._session}{'&' if urlsplit(self._session).query else '?'}digest={self._digest}"
        request = Request("PUT", url, {"Content-Length": "0"}, silence=VERIFYING_SECONDS)
        with self._client.open(request, self._login, fine=[*self._restarts, _BAD_REQUEST]) as response:
            if response.status in self._restarts:
                raise self._lost_session()
            if response.status == _BAD_REQUEST:
                raise MissingError(
                    f"{without_secrets(self._blobs)} rejects {self._digest}: it received other bytes than were sent",
                    id="digest-mismatch",
                    hint=f"Run the same command again; if the error persists, check the file {self._path}.",
                )

    def _find(self, meter: Meter) -> None:
        """Ask the registry for its offset; abandon the session if it does not report one."""
        if not self._session:  # it was abandoned
            self._move(meter, 0)
            return
        answer = self._client.send(Request("GET", self._session), login=self._login, fine=range(_BAD_REQUEST, TOO_MANY))
        has = _RANGE.fullmatch(answer.headers.get("Range", ""))
        if answer.status not in {OK, _NO_CONTENT} or has is None:
            self._session = ""
            return
        # A registry reports 0-0 for no bytes as well as for a single byte.
        self._move(meter, int(has[1]) + 1 if has[1] != "0" else 0)
        self._is_resumed = True
        self._follow(self._session, answer.headers)

    def _has_blob(self) -> bool:
        request = Request("HEAD", f"{self._blobs}/{self._digest}")
        return self._client.send(request, login=self._login, fine=[NOT_FOUND]).status == OK

    def _pieces(self, meter: Meter, offset: int) -> Iterator[bytes]:
        self._move(meter, offset)
        with self._path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk
                self._move(meter, self._offset + len(chunk))
                meter.tick()

    def _move(self, meter: Meter, offset: int) -> None:
        meter.add(offset - self._offset)
        self._offset = offset

    def _follow(self, url: str, headers: Mapping[str, str]) -> None:
        """Set the session's URL for the next request from the Location header."""
        session = joined(url, headers.get("Location")) or self._session or url
        if urlsplit(session).scheme != "https" == urlsplit(self._blobs).scheme:
            raise plain_http_error(session)
        self._session = session

    def _lost_session(self) -> TransientError:
        """Abandon the session, so that the next attempt starts another; return the error."""
        self._session = ""
        return TransientError(
            f"{without_secrets(self._blobs)} lost the upload of {self._digest}",
            id="upload-lost",
            hint="Run the same command again.",
        )
