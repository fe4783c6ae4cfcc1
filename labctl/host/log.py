"""The log of a run: the command line, output, exit code and duration of every program that it starts.

Each line has its time and the program's pid in brackets, since several programs may run at once.
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
"""The size above which the next run rotates a log."""
FILES = 3
"""How many logs to keep: the current one and, by age, those that end in `.1` and `.2`."""

_lines = logging.getLogger(__name__)
_lines.setLevel(logging.INFO)
_lines.propagate = False


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send the lines given to `write` to the log at `path`, which only its owner can read, while the context lasts.

    Rotate a log that is too long first. Raises MissingError `log-not-writable`.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))  # noqa: TRY301 - handled like a system error
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
        with suppress(OSError):  # a full disk: the last lines are lost
            file.close()


def write(pid: int, text: str) -> None:
    """Write each line of the text to the log, if there is one. Safe in any thread."""
    for line in text.splitlines():
        _lines.info("[%d] %s", pid, line)


def location() -> Path | None:
    """Return the path of the log; None if none is open."""
    return next((Path(file.baseFilename) for file in _lines.handlers if isinstance(file, _LogFile)), None)


class _LogFile(logging.FileHandler):
    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging calls it so
        # `destroy` must work on a full disk. Without the handler, later errors do not refer to this log.
        _lines.removeHandler(self)


def _rotate(path: Path) -> None:
    if not path.exists() or path.stat().st_size <= MAX_BYTES:
        return
    by_age = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, FILES))]
    for newer, older in reversed(list(itertools.pairwise(by_age))):
        if newer.exists():
            newer.replace(older)
