"""Ownership of files that labctl creates as root for the user who called sudo."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import labctl
from labctl.host import caller
from labctl.host.caller import Caller

CALLER = {"SUDO_UID": "1000", "SUDO_GID": "1001"}


@pytest.fixture
def chowned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int, int]]:
    """Run as root, called through sudo. Return the arguments of each chown."""
    changed: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_options: changed.append((path, uid, gid)))
    for name, value in CALLER.items():
        monkeypatch.setenv(name, value)
    return changed


@pytest.mark.usefixtures("chowned")
@pytest.mark.parametrize(
    ("differences", "is_called"),
    [
        ({}, True),
        ({"SUDO_UID": "0"}, False),
        ({"SUDO_UID": ""}, False),
        ({"SUDO_UID": "-1"}, False),
        ({"SUDO_UID": "me"}, False),
        ({"SUDO_GID": ""}, False),
    ],
)
def test_the_caller_is_read_from_the_variables_of_sudo(
    monkeypatch: pytest.MonkeyPatch, differences: dict[str, str], *, is_called: bool
) -> None:
    for name, value in differences.items():
        monkeypatch.setenv(name, value)

    assert caller.caller() == (Caller(1000, 1001) if is_called else None)


@pytest.mark.usefixtures("chowned")
def test_without_root_the_variables_of_sudo_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert caller.caller() is None


def test_a_folder_created_in_the_users_folder_belongs_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chowned: list[tuple[Path, int, int]]
) -> None:
    monkeypatch.setenv("SUDO_UID", str(tmp_path.stat().st_uid or 1))
    owner = tmp_path.stat().st_uid
    if owner == 0:
        monkeypatch.setattr(caller, "caller_owns", lambda path: path in {tmp_path, tmp_path / "a"})

    caller.make_folder(tmp_path / "a" / "b", 0o700)

    assert [path for path, _, _ in chowned] == [tmp_path / "a", tmp_path / "a" / "b"]
    assert ((tmp_path / "a" / "b").stat().st_mode & 0o777) == 0o700


def test_a_folder_created_in_a_foreign_folder_stays_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chowned: list[tuple[Path, int, int]]
) -> None:
    monkeypatch.setenv("SUDO_UID", str(tmp_path.stat().st_uid + 1))

    caller.make_folder(tmp_path / "a", 0o700)

    assert chowned == []


@pytest.mark.usefixtures("chowned")
def test_the_owner_of_a_link_is_that_of_its_target_or_if_dangling_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path.stat().st_uid + 1
    monkeypatch.setenv("SUDO_UID", str(owner))
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "dangling").symlink_to("nowhere")

    assert not caller.caller_owns(tmp_path / "link" / "below")
    assert not caller.caller_owns(tmp_path / "dangling" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files of root's")
@pytest.mark.parametrize("refused", [None, PermissionError(), OSError(30, "Read-only file system")], ids=repr)
def test_bytecode_that_root_compiled_is_given_to_the_owner_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: OSError | None
) -> None:
    package = tmp_path / "labctl"
    package.mkdir()
    os.chown(package, 65534, 65534)
    (compiled := package / "__init__.pyc").touch()
    chowned = []

    def chown(path: Path, *_owner: int, follow_symlinks: bool) -> None:
        chowned.append((path, follow_symlinks))
        if refused:
            raise refused

    monkeypatch.setattr(labctl, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(labctl, "__spec__", SimpleNamespace(cached=str(compiled)))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(os, "chown", chown)

    labctl._leave_no_bytecode_of_roots()

    assert sys.dont_write_bytecode
    assert chowned == [(compiled, False)]


def test_an_unknown_home_contains_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", fail)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    assert caller.ownership_hint(Path("/not/made")) == ""
