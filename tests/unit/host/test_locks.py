"""Exclusive and shared locks on files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.host.locks import exclusive, shared, try_lock
from labctl.host.wait import Pending
from labctl.model.errors import MissingError, NotReadyError


def test_a_waiting_process_is_told_which_process_holds_the_lock(tmp_path: Path) -> None:
    messages: list[str] = []

    with (
        exclusive(tmp_path / "lab" / "lock", messages.append, timeout=0),
        pytest.raises(NotReadyError, match=rf"held by .*\(pid {os.getpid()}\)") as refused,
        exclusive(tmp_path / "lab" / "lock", messages.append, timeout=0),
    ):
        pytest.fail("two were alone")

    assert refused.value.id == "locked"
    assert messages == [f"waiting for {_holder(tmp_path / 'lab' / 'lock')}"]


def test_shared_locks_coexist_and_exclude_an_exclusive_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with shared(path, pytest.fail, timeout=0), shared(path, pytest.fail, timeout=0):
        assert isinstance(try_lock(path), Pending)
    with exclusive(path, pytest.fail, timeout=0), pytest.raises(NotReadyError), shared(path, print, timeout=0):
        pytest.fail("one was alone")


def test_the_content_of_a_stale_lock_file_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("`labctl up` (pid 1), killed long ago")

    for _ in range(2):
        with exclusive(path, pytest.fail, timeout=0):
            assert f"(pid {os.getpid()})" in _holder(path)


def test_a_lock_on_a_removed_file_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with exclusive(path, pytest.fail, timeout=0):
        path.unlink()
        with exclusive(path, pytest.fail, timeout=0):
            assert isinstance(try_lock(path), Pending)


def test_a_lock_in_a_missing_folder_creates_the_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path / "gone" / "lock", pytest.fail, timeout=0):
        assert (tmp_path / "gone").stat().st_mode & 0o777 == 0o700


def test_a_lock_is_held_even_if_the_holder_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)

    with exclusive(tmp_path / "lock", pytest.fail, timeout=0):
        assert isinstance(try_lock(tmp_path / "lock"), Pending)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_lock_path_that_is_not_a_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "lock")

    with (
        pytest.raises(MissingError, match=str(tmp_path / "lock")) as refused,
        exclusive(tmp_path / "lock", print, timeout=0),
    ):
        pytest.fail("it was taken")

    assert refused.value.id == "lock-not-usable"


def _holder(path: Path) -> str:
    return path.read_text(encoding="utf-8")
