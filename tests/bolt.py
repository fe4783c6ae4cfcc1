"""A reader for bbolt databases: containerd keeps two in the store of a machine's images."""

from __future__ import annotations

import struct
from collections.abc import Iterator

PAGE = 4096
MAGIC = 0xED0CDAED
BRANCH, BUCKET = 1, 1
"""Flags: of a branch page, and of a leaf's element that is a bucket."""
HEADER, ELEMENT = 16, 16
Path = tuple[bytes, ...]


def items(data: bytes) -> dict[Path, bytes]:
    """Return every value by its path: the names of its buckets, and its key."""
    metas = [struct.unpack_from("<IIIIQQQQQ", data, number * PAGE + HEADER) for number in (0, 1)]
    newest = max((meta for meta in metas if meta[0] == MAGIC), key=lambda meta: meta[8])
    return dict(_page(data, data, newest[4] * PAGE, ()))


def _page(data: bytes, buffer: bytes, start: int, path: Path) -> Iterator[tuple[Path, bytes]]:
    _, flags, count, _ = struct.unpack_from("<QHHI", buffer, start)
    for element in range(start + HEADER, start + HEADER + count * ELEMENT, ELEMENT):
        if flags & BRANCH:
            _, _, child = struct.unpack_from("<IIQ", buffer, element)
            yield from _page(data, data, child * PAGE, path)
            continue
        kind, position, key_size, size = struct.unpack_from("<IIII", buffer, element)
        key = buffer[element + position :][:key_size]
        value = buffer[element + position + key_size :][:size]
        if not kind & BUCKET:
            yield (*path, key), value
            continue
        (root,) = struct.unpack_from("<Q", value)
        inline, at = (value, HEADER) if root == 0 else (data, root * PAGE)
        yield from _page(data, inline, at, (*path, key))
