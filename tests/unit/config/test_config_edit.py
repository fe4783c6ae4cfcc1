"""Add an app to labctl.yaml or remove one: the rest of the file is kept, and writes are atomic."""

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
NO_OPTIONS: Mapping[str, str] = {}


def _open(folder: Path, text: str) -> edit.Source:
    path = folder / "labctl.yaml"
    path.write_bytes(text.encode())
    return edit.read_source(path)


# Text


def test_mixed_line_endings_are_kept(tmp_path: Path) -> None:
    before = "workers: 2\r\napps:\n  - name: my-app\r\ncpus: 2\n"

    added = _open(tmp_path, before).with_app(SHOP)

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
def test_text_that_looks_like_another_type_is_written_as_text(tmp_path: Path, text: str, app: dict[str, str]) -> None:
    source = _open(tmp_path, text).with_app(app)

    edit.write(source)

    assert edit.read_source(source.path).values == {"apps": [{"name": "a"}, app]}
    assert config.load(source.path, config.Overrides()).apps[1].name == app["name"]


def test_in_the_example_an_app_is_added_before_the_comment_on_the_hosts_file(tmp_path: Path) -> None:
    before = config.example()

    after = _open(tmp_path, before).with_app(SHOP).text

    assert after == before.replace("\n\n# Where hostnames", "\n- name: shop\n  port: 8080\n\n# Where hostnames")


def test_an_app_with_an_anchor_that_others_use_is_not_removed(tmp_path: Path) -> None:
    source = _open(tmp_path, "apps:\n  - &a\n    name: a\n    port: 81\n  - <<: *a\n    name: b\n")

    with pytest.raises(UsageError) as caught:
        source.without_app("a")

    assert caught.value.id == "config-not-editable"
    assert source.without_app("b").text == "apps:\n  - &a\n    name: a\n    port: 81\n"


def test_a_file_that_cannot_be_edited_in_place_is_refused(tmp_path: Path) -> None:
    source = _open(tmp_path, "? apps\n: - name: a\n")

    with pytest.raises(UsageError) as caught:
        source.with_app(SHOP)

    assert (caught.value.id, caught.value.exit_code) == ("config-not-editable", ExitCode.USAGE)
    assert source.path.read_text() == source.text


# Files


def test_a_new_file_has_only_the_given_values(tmp_path: Path) -> None:
    source = edit.new_source(tmp_path / "labctl.yaml", {"name": "class", "workers": 2}, [{"name": "my-app"}])

    edit.write(source.with_app(SHOP))

    written = (tmp_path / "labctl.yaml").read_text()
    assert written == "name: class\nworkers: 2\napps:\n  - name: my-app\n  - name: shop\n    port: 8080\n"


def test_a_new_file_can_have_no_apps(tmp_path: Path) -> None:
    assert edit.new_source(tmp_path / "labctl.yaml", {}, []).text == "apps: []\n"
    assert edit.new_source(tmp_path / "labctl.yaml", {}, [SHOP]).without_app("shop").text == "apps: []\n"


def test_a_new_file_has_the_default_mode(tmp_path: Path) -> None:
    edit.write(edit.new_source(tmp_path / "labctl.yaml", {}, [SHOP]))
    (tmp_path / "other").touch()

    assert (tmp_path / "labctl.yaml").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_edited_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "lab" / "real.yaml", tmp_path / "labctl.yaml"
    real.parent.mkdir()
    real.write_text("workers: 2\n")
    real.chmod(0o640)
    link.symlink_to(real)

    edit.write(edit.read_source(link).with_app(SHOP))

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

    edit.write(edit.read_source(path).with_app(SHOP))

    assert path.read_bytes() == mark + "apps: # größer\n- name: a\n- name: shop\n  port: 8080\n".encode(encoding)


def test_a_failed_write_changes_nothing_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _open(tmp_path, "workers: 2\n")

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
    source = _open(tmp_path, "workers: 2\n").with_app(SHOP)
    inode = source.path.stat().st_ino

    def refuse(*_paths: Path) -> NoReturn:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "replace", refuse)
    edit.write(source)

    assert (source.path.read_text(), source.path.stat().st_ino) == (source.text, inode)


# Checks


def test_all_problems_are_reported_at_once_under_the_names_of_options(tmp_path: Path) -> None:
    source = _open(tmp_path, "workers: many\nworkers: 2\ncolour: red\n")
    words = {"apps[1].port": "--port", "name": "--name"}

    with pytest.raises(UsageError) as caught:
        source.lab([*source.apps, {"name": "shop", "port": 0}], "No", words)

    assert caught.value.id == "config-invalid"
    problems = [line.strip() for line in caught.value.message.splitlines()[1:]]
    assert [problem.split(":")[0] for problem in problems] == ["workers", "--name", "--port", "colour"]


@pytest.mark.parametrize("apps", ["none", "{name: a}", "", "3"])
def test_apps_that_are_not_a_list_are_a_problem(tmp_path: Path, apps: str) -> None:
    source = _open(tmp_path, f"apps: {apps}\n")

    with pytest.raises(UsageError, match=r"\n  apps: "):
        source.lab([*source.apps, SHOP], None, NO_OPTIONS)


def test_a_file_without_apps_has_the_default_app(tmp_path: Path) -> None:
    source = _open(tmp_path, "workers: 2\n")

    assert source.apps == [{"name": "my-app"}]
    assert source.lab(source.apps, None, NO_OPTIONS) == config.load(source.path, config.Overrides())


@pytest.mark.parametrize("concurrent_content", ["workers: 3\n", None], ids=["changed", "removed"])
def test_a_file_that_was_changed_meanwhile_is_not_overwritten(tmp_path: Path, concurrent_content: str | None) -> None:
    changed = _open(tmp_path, "workers: 2\n").with_app(SHOP)
    changed.path.write_text(concurrent_content) if concurrent_content else changed.path.unlink()

    with pytest.raises(UsageError) as caught:
        edit.write(changed)

    assert caught.value.id == "config-changed"
    assert (changed.path.read_text() if changed.path.exists() else None) == concurrent_content


def test_a_file_that_was_created_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    changed = edit.new_source(tmp_path / "labctl.yaml", {}, [SHOP])
    changed.path.write_text("workers: 3\n")

    with pytest.raises(UsageError) as caught:
        edit.write(changed)

    assert caught.value.id == "config-changed"
    assert changed.path.read_text() == "workers: 3\n"
