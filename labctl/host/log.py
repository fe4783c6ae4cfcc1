"""The log of a run: the command line, output, exit code and seconds of every program that runs meanwhile.

Each line has its time and, in brackets, the program's pid: several programs may run at once.
"""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labctl.model.errors import MissingError

MAX_BYTES = 5 << 20
"""How long a log may be for another run to go on with it."""
FILES = 3
"""How many logs are kept: the current one and, by age, those that end in `.1` and `.2`."""

_lines = logging.getLogger(__name__)
_lines.setLevel(logging.INFO)
_lines.propagate = False


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write every line given to `write` to the log at `path`, which only its owner can read, as long as the context lasts.

    A log that has grown too long is put away first. Raises MissingError `log-not-writable`.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))  # noqa: TRY301 - as what the system refuses
        _rotate(path)
        path.touch(mode=0o600)
        path.chmod(0o600)
        file = _LogFile(path)
    except OSError as error:
        raise MissingError(
            f"the log {path} cannot be written: {error.strerror}",
            id="log-not-writable",
            hint="Remove it, or make the user who runs labctl the owner of it and its folder.",
        ) from error
    _lines.addHandler(file)
    try:
        yield
    finally:
        _lines.removeHandler(file)
        with suppress(OSError):  # the last lines of a log that the disk had no room for
            file.close()


def write(pid: int, text: str) -> None:
    """Write each line of the text to the log, if there is one. Safe in any thread."""
    for line in text.splitlines():
        _lines.info("[%d] %s", pid, line)


def location() -> Path | None:
    """Return the path of the log; None while nothing is logged."""
    return next((Path(file.baseFilename) for file in _lines.handlers if isinstance(file, _LogFile)), None)


class _LogFile(logging.FileHandler):
    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging calls it so
        # Where the disk is full, `destroy` has to work all the same. What fails then no longer refers to this log.
        _lines.removeHandler(self)


def _rotate(path: Path) -> None:
    if not path.exists() or path.stat().st_size <= MAX_BYTES:
        return
    by_age = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, FILES))]
    for newer, older in reversed(list(itertools.pairwise(by_age))):
        if newer.exists():
            newer.replace(older)
