"""Add an app to labctl.yaml or remove one: the rest of the file is kept, and it is written whole or not at all."""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from labctl import config
from labctl.config import edit
from labctl.model.errors import ExitCode, UsageError

SHOP = {"name": "shop", "port": 8080}
NOBODY: Mapping[str, str] = {}


def _opened(folder: Path, text: str) -> edit.Source:
    path = folder / "labctl.yaml"
    path.write_bytes(text.encode())
    return edit.opened(path)


# Text


def test_line_ends_that_are_mixed_stay_mixed(tmp_path: Path) -> None:
    before = "workers: 2\r\napps:\n  - name: my-app\r\ncpus: 2\n"

    added = _opened(tmp_path, before).with_app(SHOP)

    assert added.text == before.replace("cpus", "  - name: shop\n    port: 8080\ncpus")
    assert added.without_app("shop").text == before


@pytest.mark.parametrize(
    "app",
    [
        {"name": "on"},
        {"name": "null", "hostname": "2026-01-01"},
        {"name": "x", "image": "1:30", "hostname": "0x1f"},
        {"name": "x", "image": "a" * 200, "hostname": "1e3"},
    ],
    ids=str,
)
@pytest.mark.parametrize("text", ["apps:\n  - name: a\n", "apps: [{name: a}]\n", '{"apps": [{"name": "a"}]}'])
def test_text_that_looks_like_something_else_stays_text(tmp_path: Path, text: str, app: dict[str, str]) -> None:
    source = _opened(tmp_path, text).with_app(app)

    edit.write(source)

    assert edit.opened(source.path).values == {"apps": [{"name": "a"}, app]}
    assert config.load(source.path, config.Overrides()).apps[1].name == app["name"]


def test_the_example_takes_another_app_before_what_it_says_of_the_hosts_file(tmp_path: Path) -> None:
    before = config.example()

    after = _opened(tmp_path, before).with_app(SHOP).text

    assert after == before.replace("\n\n# Where hostnames", "\n- name: shop\n  port: 8080\n\n# Where hostnames")


def test_an_app_that_others_lean_on_is_not_taken_away(tmp_path: Path) -> None:
    source = _opened(tmp_path, "apps:\n  - &a\n    name: a\n    port: 81\n  - <<: *a\n    name: b\n")

    with pytest.raises(UsageError) as caught:
        source.without_app("a")

    assert caught.value.id == "config-not-editable"
    assert source.without_app("b").text == "apps:\n  - &a\n    name: a\n    port: 81\n"


def test_what_cannot_be_changed_alone_is_refused(tmp_path: Path) -> None:
    source = _opened(tmp_path, "? apps\n: - name: a\n")

    with pytest.raises(UsageError) as caught:
        source.with_app(SHOP)

    assert (caught.value.id, caught.value.exit_code) == ("config-not-editable", ExitCode.USAGE)
    assert source.path.read_text() == source.text


# Files


def test_a_new_file_says_what_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    source = edit.new(tmp_path / "labctl.yaml", {"name": "class", "workers": 2}, [{"name": "my-app"}])

    edit.write(source.with_app(SHOP))

    written = (tmp_path / "labctl.yaml").read_text()
    assert written == "name: class\nworkers: 2\napps:\n  - name: my-app\n  - name: shop\n    port: 8080\n"


def test_a_new_file_may_be_without_apps(tmp_path: Path) -> None:
    assert edit.new(tmp_path / "labctl.yaml", {}, []).text == "apps: []\n"
    assert edit.new(tmp_path / "labctl.yaml", {}, [SHOP]).without_app("shop").text == "apps: []\n"


def test_a_new_file_is_one_that_others_may_read(tmp_path: Path) -> None:
    edit.write(edit.new(tmp_path / "labctl.yaml", {}, [SHOP]))
    (tmp_path / "other").touch()

    assert (tmp_path / "labctl.yaml").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "lab" / "real.yaml", tmp_path / "labctl.yaml"
    real.parent.mkdir()
    real.write_text("workers: 2\n")
    real.chmod(0o640)
    link.symlink_to(real)

    edit.write(edit.opened(link).with_app(SHOP))

    assert link.is_symlink()
    assert real.read_text().startswith("workers: 2\napps:\n")
    assert real.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in real.parent.iterdir()] == ["real.yaml"]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
    ids=["utf-8", "utf-16-le", "utf-16-be"],
)
def test_a_file_keeps_its_encoding(tmp_path: Path, mark: bytes, encoding: str) -> None:
    path = tmp_path / "labctl.yaml"
    path.write_bytes(mark + "apps: # größer\n- name: a\n".encode(encoding))

    edit.write(edit.opened(path).with_app(SHOP))

    assert path.read_bytes() == mark + "apps: # größer\n- name: a\n- name: shop\n  port: 8080\n".encode(encoding)


def test_what_cannot_be_written_is_as_it_was_and_nothing_is_left_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _opened(tmp_path, "workers: 2\n")

    def full(_descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(UsageError) as caught:
        edit.write(source.with_app(SHOP))

    assert (caught.value.id, caught.value.exit_code) == ("config-unwritable", ExitCode.USAGE)
    assert os.strerror(errno.ENOSPC) in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["labctl.yaml"]
    assert source.path.read_text() == "workers: 2\n"


def test_a_file_that_cannot_be_replaced_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _opened(tmp_path, "workers: 2\n").with_app(SHOP)
    inode = source.path.stat().st_ino

    def refuse(*_paths: Path) -> NoReturn:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "replace", refuse)
    edit.write(source)

    assert (source.path.read_text(), source.path.stat().st_ino) == (source.text, inode)


# Checks


def test_every_problem_is_told_at_once_in_the_words_of_the_user(tmp_path: Path) -> None:
    source = _opened(tmp_path, "workers: many\nworkers: 2\ncolour: red\n")
    words = {"apps[1].port": "--port", "name": "--name"}

    with pytest.raises(UsageError) as caught:
        source.lab([*source.apps, {"name": "shop", "port": 0}], "No", words)

    assert caught.value.id == "config-invalid"
    problems = [line.strip() for line in caught.value.message.splitlines()[1:]]
    assert [problem.split(":")[0] for problem in problems] == ["workers", "--name", "--port", "colour"]


@pytest.mark.parametrize("apps", ["none", "{name: a}", "", "3"])
def test_apps_that_are_no_list_are_a_problem(tmp_path: Path, apps: str) -> None:
    source = _opened(tmp_path, f"apps: {apps}\n")

    with pytest.raises(UsageError, match=r"\n  apps: "):
        source.lab([*source.apps, SHOP], None, NOBODY)


def test_a_file_that_does_not_speak_of_apps_has_the_default_one(tmp_path: Path) -> None:
    source = _opened(tmp_path, "workers: 2\n")

    assert source.apps == [{"name": "my-app"}]
    assert source.lab(source.apps, None, NOBODY) == config.load(source.path, config.Overrides())


@pytest.mark.parametrize("theirs", ["workers: 3\n", None], ids=["changed", "removed"])
def test_a_file_that_somebody_else_wrote_to_meanwhile_is_left_to_them(tmp_path: Path, theirs: str | None) -> None:
    changed = _opened(tmp_path, "workers: 2\n").with_app(SHOP)
    changed.path.write_text(theirs) if theirs else changed.path.unlink()

    with pytest.raises(UsageError) as caught:
        edit.write(changed)

    assert caught.value.id == "config-changed"
    assert (changed.path.read_text() if changed.path.exists() else None) == theirs


def test_a_file_that_appears_where_there_was_none_is_not_written_over(tmp_path: Path) -> None:
    changed = edit.new(tmp_path / "labctl.yaml", {}, [SHOP])
    changed.path.write_text("workers: 3\n")

    with pytest.raises(UsageError) as caught:
        edit.write(changed)

    assert caught.value.id == "config-changed"
    assert changed.path.read_text() == "workers: 3\n"
