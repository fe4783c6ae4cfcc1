"""A reader of PNG files with the standard library, for the part of the format that Chromium writes."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 6: 4}
"""Bytes per pixel, by colour type: RGB, and RGB with transparency."""


@dataclass(frozen=True, slots=True)
class Picture:
    width: int
    height: int
    colours: Counter[bytes]
    """The number of pixels of each colour."""


def read(content: bytes) -> Picture:
    assert content.startswith(SIGNATURE), f"no PNG: {content[:16]!r}"
    chunks = list(_chunks(content))
    header = next(data for kind, data in chunks if kind == b"IHDR")
    width, height, depth, colour, *_, interlace = struct.unpack(">IIBBBBB", header)
    assert (depth, interlace, colour in CHANNELS) == (8, 0, True)
    pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    size = CHANNELS[colour]
    colours = Counter(
        row[at : at + size] for row in _rows(pixels, width * size, size) for at in range(0, len(row), size)
    )
    return Picture(width, height, colours)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + 8 + length]
        at += length + 12  # its length, its kind, and its checksum


def _rows(pixels: bytes, length: int, size: int) -> Iterator[bytes]:
    """Yield each row without its filter, which stores a byte as the difference to its neighbours."""
    above = bytes(length)
    for start in range(0, len(pixels), length + 1):
        kind, row = pixels[start], bytearray(pixels[start + 1 : start + 1 + length])
        for at in range(length) if kind else ():
            left, left_above = (row[at - size], above[at - size]) if at >= size else (0, 0)
            up = above[at]
            predicted = (0, left, up, (left + up) // 2, _paeth(left, up, left_above))[kind]
            row[at] = (row[at] + predicted) & 0xFF
        above = bytes(row)
        yield above


def _paeth(left: int, up: int, left_above: int) -> int:
    guess = left + up - left_above
    return min((left, up, left_above), key=lambda near: abs(guess - near))
