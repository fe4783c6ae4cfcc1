"""Exceptions become errors: one of the operating system is reported as such, not as a bug."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from labctl.commands import endings
from labctl.model.errors import ExitCode

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("number", "identity"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EFBIG, "file-too-large"),
        (errno.EACCES, "not-permitted"),
        (errno.EPERM, "not-permitted"),
        (errno.EROFS, "read-only"),
        (errno.EMFILE, "too-many-files"),
        (errno.ENOENT, "system-refused"),
        (errno.ELOOP, "system-refused"),
        (errno.ENAMETOOLONG, "system-refused"),
    ],
)
def test_an_operating_system_error_is_reported_with_file_and_reason(number: int, identity: str) -> None:
    error = endings.as_error(OSError(number, os.strerror(number), "/srv/lab.json"))

    assert (error.id, error.exit_code) == (identity, ExitCode.MISSING)
    assert error.message == f"/srv/lab.json: {os.strerror(number)}"
    assert error.hint
    assert error.details == ()


def test_both_files_of_a_rename_are_named() -> None:
    error = endings.as_error(OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b"))

    assert error.message == "/a and /b: Invalid cross-device link"


def test_a_deleted_current_folder_has_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = tmp_path / "gone"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    deleted.rmdir()

    assert endings.as_error(FileNotFoundError(errno.ENOENT, "No such file or directory")).id == "folder-gone"


def test_an_undecodable_argument_is_a_usage_error_that_shows_it() -> None:
    with pytest.raises(UnicodeEncodeError) as raised:
        "a\udcffb".encode()

    error = endings.as_error(raised.value)

    assert (error.id, error.exit_code) == ("not-text", ExitCode.USAGE)
    assert r"'a\udcffb'" in error.message


def test_the_traceback_is_in_the_log_and_in_verbose_output() -> None:
    error = endings.as_error(OSError(errno.EIO, "Input/output error", "/srv"), verbose=True)

    assert error.details[-1].endswith("Input/output error: '/srv'")
    assert "Input/output error" in endings.common_log().read_text()


def test_a_bug_is_reported_even_if_the_log_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")

    error = endings.as_error(ZeroDivisionError("x"))

    assert error.id == "bug"
    assert error.message.endswith("ZeroDivisionError: x"), "it names no log"
