"""A reader for seed disks."""

from __future__ import annotations

import stat
from io import BytesIO
from pathlib import Path

from pycdlib.pycdlib import PyCdlib


def seed_files(path: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and mode of every file, by its Rock Ridge name."""
    image = PyCdlib()
    image.open(str(path))
    try:
        return {
            record.rock_ridge.name().decode(): (_content(image, record.rock_ridge.name().decode()), _mode(record))
            for record in image.list_children(rr_path="/")
            if record.is_file()
        }
    finally:
        image.close()


def _content(image: PyCdlib, name: str) -> bytes:
    read = BytesIO()
    image.get_file_from_iso_fp(read, rr_path=f"/{name}")
    return read.getvalue()


def _mode(record: object) -> int:
    return stat.S_IMODE(record.rock_ridge.get_file_mode())  # type: ignore[attr-defined]
