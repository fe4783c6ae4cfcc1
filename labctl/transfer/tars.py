"""Foreign tar archives: every kind of damage raises one error."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_BROKEN = (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError, MemoryError)
"""The exceptions that damaged headers raise besides EINVAL: impossible sizes and chains of headers."""


def open_tar(path: Path, error: Callable[[str], Exception]) -> tarfile.TarFile:
    """Open an uncompressed archive; raise `error`, with the reason, if the file is not one."""
    with _translate_errors(error):
        return tarfile.open(path, "r:")


def members(tar: tarfile.TarFile, error: Callable[[str], Exception]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive; raise `error`, with the reason, if it is damaged."""
    with _translate_errors(error):
        yield from tar


@contextmanager
def _translate_errors(error: Callable[[str], Exception]) -> Iterator[None]:
    try:
        yield
    except _BROKEN as broken:
        raise error(str(broken) or type(broken).__name__) from broken
    except OSError as refused:
        if refused.errno != errno.EINVAL:
            raise
        raise error("a member has a size that no file can have") from refused
