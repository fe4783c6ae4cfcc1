"""Fetch blobs into the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.transfer.client import Client, Request, check
from labctl.transfer.store import Blob, BlobStore

CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something to fetch: what people call it, where it is, and what is known of it.

    Without a digest it is fetched every time, and taken as it comes.
    """

    name: str
    url: str
    digest: str | None = None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def fetch(wanted: Sequence[Wanted], store: BlobStore, report: Progress) -> tuple[Blob, ...]:
    """Fetch what the store does not have; return all of it, in order.

    Raises MissingError.
    """
    client = Client()
    return tuple(_fetch(each, store, client, report) for each in wanted)


def _fetch(wanted: Wanted, store: BlobStore, client: Client, report: Progress) -> Blob:
    if wanted.digest and store.has(wanted.digest):
        return Blob(wanted.digest, store.path(wanted.digest).stat().st_size)
    report(f"fetching {wanted.name}")
    partial = store.partial(wanted.digest or f"sha256:{hashlib.sha256(wanted.url.encode()).hexdigest()}")
    computed = hashlib.sha256()
    with client.open(Request("GET", wanted.url, wanted.headers)) as response, partial.open("wb") as file:
        check(response.status, wanted.url)
        while chunk := response.read(CHUNK):
            computed.update(chunk)
            file.write(chunk)
    digest = f"sha256:{computed.hexdigest()}"
    if wanted.digest not in {None, digest}:
        partial.unlink()
        raise MissingError(
            f"{wanted.name} from {wanted.url} has the digest {digest} instead of {wanted.digest}",
            id="digest-mismatch",
            hint="The file is damaged, or another one. Get it again.",
        )
    size = partial.stat().st_size
    store.adopt(partial, digest)
    return Blob(digest, size)
