"""Atomic file writes, with the right mode and owner."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from labctl.host import files

Write = Callable[[Path], None]
WRITERS: dict[str, tuple[bytes | None, Write]] = {
    "write, where there is none": (None, lambda path: files.write(path, b"new")),
    "write, where there is one": (b"old", lambda path: files.write(path, b"new")),
    "create": (None, lambda path: files.create(path, b"new")),
    "rewrite": (b"old", lambda path: files.rewrite(path, b"old", b"new", "point")),
}
"""The file's content before, and a function that changes it to `new`."""
every_writer = pytest.mark.parametrize(("before", "write"), WRITERS.values(), ids=WRITERS)


@pytest.fixture
def umask() -> Iterator[int]:
    """Set an unusual umask."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@every_writer
def test_the_content_is_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None, write: Write
) -> None:
    path, synced = tmp_path / "file", []
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_ino, _content(path))))

    write(path)

    assert synced == [(path.stat().st_ino, before), (tmp_path.stat().st_ino, b"new")]


@every_writer
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None, write: Write, call: str
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def full(*_arguments: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(path)

    assert _content(path) == before
    assert [each.name for each in tmp_path.iterdir()] == (["file"] if before else [])


def test_written_files_and_created_parent_folders_are_private(tmp_path: Path) -> None:
    files.write(tmp_path / "lab/pki/token", b"secret")

    assert _mode(tmp_path / "lab/pki/token") == 0o600
    assert _mode(tmp_path / "lab/pki") & 0o077 == 0


def test_a_shared_or_created_file_has_the_default_mode(tmp_path: Path, umask: int) -> None:
    files.write(tmp_path / "written", b"", mode=files.SHARED_FILE)
    files.create(tmp_path / "created", b"")

    assert {_mode(path) for path in tmp_path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize(
    "occupy", [Path.touch, Path.mkdir, lambda path: path.symlink_to("gone")], ids=["file", "folder", "link to nothing"]
)
def test_create_refuses_an_existing_name(tmp_path: Path, occupy: Callable[[Path], None]) -> None:
    path = tmp_path / "taken"
    occupy(path)
    before = path.lstat()

    with pytest.raises(FileExistsError):
        files.create(path, b"new")

    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(IsADirectoryError) as raised:
        files.write(tmp_path / "taken", b"new")

    assert raised.value.filename == str(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_unchanged_files_are_not_written(tmp_path: Path) -> None:
    contents = {"one": "1", "below/two": "2"}
    assert files.write_changed(tmp_path, contents)
    assert not files.write_changed(tmp_path, contents)

    (tmp_path / "one").write_text("other")
    two = (tmp_path / "below/two").stat()
    assert files.write_changed(tmp_path, contents)
    assert (tmp_path / "one").read_text() == "1"
    assert (tmp_path / "below/two").stat() == two


def test_a_file_removed_while_sizes_are_added_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "walk", lambda folder: [(folder, [], ["gone", "there"])])
    (tmp_path / "there").write_bytes(b"x")

    assert files.size_on_disk([tmp_path, tmp_path]) == (tmp_path / "there").stat().st_blocks * 512
