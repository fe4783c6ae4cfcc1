"""The folders of labctl, and operations on paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from labctl.host import paths
from labctl.model.errors import MissingError, UsageError


def test_state_and_cache_follow_the_xdg_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    assert paths.state("demo") == tmp_path / "state" / "labctl" / "demo"
    assert paths.cache() == tmp_path / "cache" / "labctl"


@pytest.mark.parametrize("absent", [None, "", "not/absolute"])
def test_without_usable_xdg_variables_the_defaults_below_home_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        if absent is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, absent)

    assert paths.state_home() == tmp_path / ".local/state/labctl"
    assert paths.cache() == tmp_path / ".cache/labctl"


def test_getting_a_path_creates_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    paths.state("demo")

    assert list(tmp_path.iterdir()) == []


def test_a_private_folder_is_created_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    folder = paths.private_folder(tmp_path / "labctl" / "demo")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_existing_folder_becomes_private(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir(mode=0o755)

    paths.private_folder(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_existing_folder_keeps_its_mode_and_a_new_one_is_private(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o1777)

    for folder in (tmp_path / "theirs", tmp_path / "theirs" / "ours"):
        assert paths.new_folder(folder) == folder

    assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "theirs" / "ours").stat().st_mode) == 0o700


def test_a_folder_of_another_user_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)

    paths.private_folder(tmp_path / "theirs")

    assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o755


def test_a_folder_without_access_is_reported_with_a_chown_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    monkeypatch.setattr(os, "access", lambda _path, mode: mode == os.F_OK)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "demo").mkdir()

    with pytest.raises(MissingError) as caught:
        paths.private_folder(tmp_path / "demo")

    assert caught.value.id == "folder-not-made"
    assert f'sudo chown -R "$USER": {tmp_path / "demo"}' in caught.value.hint

    monkeypatch.setenv("HOME", str(tmp_path / "demo"))
    with pytest.raises(MissingError) as caught:
        paths.private_folder(tmp_path / "demo")

    assert "chown" not in caught.value.hint


@pytest.mark.parametrize("make", [paths.private_folder, paths.new_folder])
def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MissingError) as caught:
        make(tmp_path / "file")

    assert caught.value.id == "folder-not-made"


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MissingError, match="file/demo") as caught:
        paths.private_folder(tmp_path / "file" / "demo")

    assert caught.value.id == "folder-not-made"


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_an_unknown_home_is_an_error_unless_an_xdg_variable_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None
) -> None:
    def fail(number: int) -> NoReturn:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", fail)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)

    for act in (paths.cache, paths.home):
        with pytest.raises(UsageError) as raised:
            act()
        assert raised.value.id == "home-unknown"
    assert paths.state_home() == tmp_path / "labctl"


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")

    assert paths.content(tmp_path / "file") == b"content"
    for other in ("fifo", "loop", "missing", "."):
        with pytest.raises(OSError, match=str(tmp_path / other)):
            paths.content(tmp_path / other)


def test_a_link_to_itself_is_resolved_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert paths.real(tmp_path / "loop").name == "loop"


def test_a_tree_is_removed_with_its_content_also_through_a_link(tmp_path: Path) -> None:
    for folder in (tmp_path / "plain", tmp_path / "disk"):
        (folder / "below").mkdir(parents=True)
        (folder / "below" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    for name in ("plain", "link", "dangling", "absent"):
        paths.remove_tree(tmp_path / name)

    assert list(tmp_path.iterdir()) == []
