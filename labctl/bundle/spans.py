"""Content in memory or in a range of a file. Large content is read in chunks, never whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes in a file."""

    path: Path
    offset: int
    size: int


Content = Span | bytes


def size_of(content: Content) -> int:
    """Return the number of bytes."""
    return len(content) if isinstance(content, bytes) else content.size


def chunks(content: Content) -> Iterator[bytes]:
    """Yield the content in chunks. A file that is too short yields less than the size."""
    if isinstance(content, bytes):
        yield content
        return
    left = content.size
    with content.path.open("rb") as file:
        file.seek(content.offset)
        while left and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


def read_all(content: Content) -> bytes:
    """Return the whole content. For documents, which are small."""
    return b"".join(chunks(content))


def digest_of(content: Content) -> str:
    """Return the content's digest in OCI's form, `sha256:…`."""
    hashed = hashlib.sha256()
    for chunk in chunks(content):
        hashed.update(chunk)
    return f"sha256:{hashed.hexdigest()}"
