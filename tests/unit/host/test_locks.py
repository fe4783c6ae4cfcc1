from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.host.locks import alone, shared, try_lock
from labctl.host.wait import Pending
from labctl.model.errors import MissingError, NotReadyError


def test_whoever_waits_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    said: list[str] = []

    with (
        alone(tmp_path / "lab" / "lock", said.append, timeout=0),
        pytest.raises(NotReadyError, match=rf"held by .*\(pid {os.getpid()}\)") as refused,
        alone(tmp_path / "lab" / "lock", said.append, timeout=0),
    ):
        pytest.fail("two were alone")

    assert refused.value.id == "locked"
    assert said == [f"waiting for {_holder(tmp_path / 'lab' / 'lock')}"]


def test_a_lock_is_shared_by_those_who_do_not_need_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with shared(path, pytest.fail, timeout=0), shared(path, pytest.fail, timeout=0):
        assert isinstance(try_lock(path), Pending)
    with alone(path, pytest.fail, timeout=0), pytest.raises(NotReadyError), shared(path, print, timeout=0):
        pytest.fail("one was alone")


def test_a_lock_is_free_again_afterwards_whatever_is_written_in_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("`labctl up` (pid 1), killed long ago")

    for _ in range(2):
        with alone(path, pytest.fail, timeout=0):
            assert f"(pid {os.getpid()})" in _holder(path)


def test_a_lock_on_a_file_that_was_removed_meanwhile_guards_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with alone(path, pytest.fail, timeout=0):
        path.unlink()
        with alone(path, pytest.fail, timeout=0):
            assert isinstance(try_lock(path), Pending)


def test_a_lock_in_a_folder_that_is_gone_makes_the_folder_again(tmp_path: Path) -> None:
    with alone(tmp_path / "gone" / "lock", pytest.fail, timeout=0):
        assert (tmp_path / "gone").stat().st_mode & 0o777 == 0o700


def test_a_lock_is_held_where_the_disk_has_no_room_for_who_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)

    with alone(tmp_path / "lock", pytest.fail, timeout=0):
        assert isinstance(try_lock(tmp_path / "lock"), Pending)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "lock")

    with (
        pytest.raises(MissingError, match="lock cannot be taken") as refused,
        alone(tmp_path / "lock", print, timeout=0),
    ):
        pytest.fail("it was taken")

    assert refused.value.id == "lock-not-usable"


def _holder(path: Path) -> str:
    return path.read_text(encoding="utf-8")
