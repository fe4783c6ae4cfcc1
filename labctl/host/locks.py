"""File locks that the kernel releases when their holder exits, so a stale lock file blocks nobody."""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from labctl.host.paths import PRIVATE
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError, NotReadyError
from labctl.model.events import Progress

INTERVAL = 0.1


@contextmanager
def shared(path: Path, report: Progress, *, timeout: float) -> Iterator[BinaryIO]:
    """Hold a shared lock on the file; wait for the holder of an exclusive one. Raises as `exclusive` does."""
    with _hold(path, report, timeout, fcntl.LOCK_SH) as file:
        yield file


@contextmanager
def exclusive(path: Path, report: Progress, *, timeout: float) -> Iterator[BinaryIO]:
    """Hold an exclusive lock on the file, created if missing; report the current holder and wait for it.

    A program that inherits the file's descriptor holds the lock as well, and keeps it if this process is killed. Raises
    NotReadyError `locked`, naming the holder, after `timeout` seconds, and MissingError `lock-not-usable`.
    """
    with _hold(path, report, timeout, fcntl.LOCK_EX) as file:
        yield file


@contextmanager
def _hold(path: Path, report: Progress, timeout: float, kind: int) -> Iterator[BinaryIO]:
    try:
        file = until(
            partial(_try_lock, path, report, kind), what=f"the lock {path}", timeout=timeout, interval=INTERVAL
        )
    except NotReadyError as error:
        raise NotReadyError(
            error.message, id="locked", hint="Wait for that process, or end it. Then run the same command again."
        ) from error
    except OSError as error:
        raise MissingError(
            f"the lock {path} cannot be taken: {error.strerror or error}",
            id="lock-not-usable",
            hint="Remove it if it is not a regular file, or make the user who runs labctl the owner of it and its folder.",
        ) from error
    with file:
        yield file


def try_lock(path: Path, mode: Literal["rb", "a+b"] = "rb", kind: int = fcntl.LOCK_EX) -> BinaryIO | Pending:
    """Open and lock a file; return Pending if another process holds the lock."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open(mode))
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return Pending("another process holds it")
        # The previous holder may have removed or replaced the file: then this lock protects nothing.
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return Pending("the file was replaced")
        stack.pop_all()
        return file


def _try_lock(path: Path, report: Progress, kind: int) -> BinaryIO | Pending:
    path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)  # again, if the holder removed it meanwhile
    try:
        file = try_lock(path, "a+b", kind)
        holder = path.read_text(encoding="utf-8", errors="replace") if isinstance(file, Pending) else ""
    except FileNotFoundError:
        return Pending("its holder is removing the file")
    if isinstance(file, Pending):
        report(f"waiting for {holder or 'another process'}")
        return Pending(f"held by {holder or 'another process'}")
    with suppress(OSError):  # on a full disk the lock is held without naming its holder
        file.truncate(0)
        os.write(file.fileno(), f"`{shlex.join(['labctl', *sys.argv[1:]])}` (pid {os.getpid()})".encode())
    return file
