"""A lab's entries in the user's own kubeconfig."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from labctl.cluster import user_kubeconfig
from labctl.host import wait
from labctl.model.errors import UsageError


def _config(name: str, server: str = "https://192.168.56.10:6443") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": f"{name}-admin", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
    }


@pytest.fixture
def lab_kubeconfig(home: Path) -> Path:
    path = home / "lab-kubeconfig"
    path.write_text(yaml.safe_dump(_config("demo")))
    return path


@pytest.fixture
def user_config(home: Path) -> Path:
    """The path of the user's kubeconfig, which does not exist yet."""
    return home / ".kube" / "config"


def test_a_new_kubeconfig_is_readable_by_the_user_alone(lab_kubeconfig: Path, user_config: Path) -> None:
    assert user_kubeconfig.merge(lab_kubeconfig, "demo") == user_config

    assert yaml.safe_load(user_config.read_text()) == _config("demo")
    assert user_config.stat().st_mode & 0o077 == 0


def test_other_entries_and_the_current_context_are_kept_and_the_file_is_backed_up(
    lab_kubeconfig: Path, user_config: Path
) -> None:
    user_config.parent.mkdir()
    before = yaml.safe_dump({**_config("work"), "preferences": {"colors": True}})
    user_config.write_text(before)

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    merged = yaml.safe_load(user_config.read_text())
    assert [context["name"] for context in merged["contexts"]] == ["work", "demo"]
    assert merged["current-context"] == "work"
    assert merged["preferences"] == {"colors": True}
    assert user_config.with_name("config.before-labctl").read_text() == before


def test_the_file_and_its_backup_keep_mode_and_owner(
    lab_kubeconfig: Path, user_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[object] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda _copy, *owner: owners.append(owner))
    monkeypatch.setattr(os, "fchown", lambda _file, *owner: owners.append(owner))
    user_config.parent.mkdir(mode=0o755)
    user_config.write_text(yaml.safe_dump(_config("work")))
    user_config.chmod(0o640)
    owner = (user_config.stat().st_uid, user_config.stat().st_gid)

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert owners == [owner, owner]
    for path in (user_config, user_config.with_name("config.before-labctl")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path
    assert stat.S_IMODE(user_config.parent.stat().st_mode) == 0o755


def test_a_backup_never_replaces_an_earlier_one_and_no_change_creates_none(
    lab_kubeconfig: Path, user_config: Path
) -> None:
    user_config.parent.mkdir()
    contents = []
    for name in ("work", "home", "work"):
        contents.append(yaml.safe_dump(_config(name)))
        user_config.write_text(contents[-1])
        for _ in range(2):
            user_kubeconfig.merge(lab_kubeconfig, "demo")

    copies = {path.name: path.read_text() for path in user_config.parent.iterdir() if path != user_config}
    assert copies == {"config.before-labctl": contents[0], "config.before-labctl-2": contents[1]}


def test_a_failed_write_is_an_error_and_leaves_the_file_unchanged(
    lab_kubeconfig: Path, user_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_config.parent.mkdir()
    user_config.write_text(yaml.safe_dump(_config("work")))
    before = user_config.read_bytes()

    def full(*_arguments: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError) as raised:
        user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert raised.value.id == "kubeconfig-unwritable"
    assert user_config.read_bytes() == before


def test_entries_of_an_earlier_lab_of_the_same_name_are_replaced(lab_kubeconfig: Path, user_config: Path) -> None:
    user_config.parent.mkdir()
    user_config.write_text(yaml.safe_dump(_config("demo", "https://old:6443")))

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert yaml.safe_load(user_config.read_text()) == _config("demo")


def test_a_file_with_empty_sections_is_merged(lab_kubeconfig: Path, user_config: Path) -> None:
    user_config.parent.mkdir()
    user_config.write_text("apiVersion: v1\nkind: Config\nclusters: null\nusers: []\n")

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert yaml.safe_load(user_config.read_text()) == _config("demo")


@pytest.mark.parametrize(
    ("named", "written"),
    [
        (":link:absent", "real"),
        ("absent:link", "real"),
        ("absent:last", "last"),
        ("lab-kubeconfig:absent", "absent"),
        ("lab-kubeconfig", ".kube/config"),
    ],
)
def test_the_file_is_the_one_that_kubectl_would_write_but_never_the_labs_own(
    lab_kubeconfig: Path, home: Path, monkeypatch: pytest.MonkeyPatch, named: str, written: str
) -> None:
    (home / "real").write_text(yaml.safe_dump(_config("work")))
    (home / "link").symlink_to("real")
    monkeypatch.setenv("KUBECONFIG", ":".join(entry and str(home / entry) for entry in named.split(":")))

    assert user_kubeconfig.merge(lab_kubeconfig, "demo") == home / written
    assert (home / "link").is_symlink()
    assert [name for name in ("absent", "last") if (home / name).exists()] == [written] * (
        written in {"absent", "last"}
    )


def test_foreign_entries_in_the_labs_own_file_are_not_merged(lab_kubeconfig: Path, user_config: Path) -> None:
    added = _config("kind-x")
    lab_kubeconfig.write_text(
        yaml.safe_dump({**added, **{key: _config("demo")[key] + added[key] for key in user_kubeconfig.SECTIONS}})
    )

    user_kubeconfig.merge(lab_kubeconfig, "demo")
    assert yaml.safe_load(user_config.read_text()) == _config("demo")

    user_config.write_text(lab_kubeconfig.read_text())
    assert user_kubeconfig.forget(lab_kubeconfig, "demo")
    assert [entry["name"] for entry in yaml.safe_load(user_config.read_text())["users"]] == ["kind-x-admin"]


@pytest.mark.parametrize(
    "content", ["", "apiVersion: v1\nkind: Config\ncurrent-context: ''\n", "kind: Config\ncurrent-context:\n"]
)
def test_a_file_without_a_current_context_gets_the_labs(lab_kubeconfig: Path, user_config: Path, content: str) -> None:
    user_config.parent.mkdir()
    user_config.write_text(content)

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    merged = yaml.safe_load(user_config.read_text())
    assert (merged["kind"], merged["current-context"], len(merged["users"])) == ("Config", "demo", 1)


@pytest.mark.parametrize("content", [b"a: [1", b"just text", b"\xff\xfe\x00"])
def test_an_invalid_kubeconfig_is_refused_and_left_unchanged(
    lab_kubeconfig: Path, user_config: Path, content: bytes
) -> None:
    user_config.parent.mkdir()
    user_config.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert raised.value.id == "kubeconfig-unreadable"
    assert str(user_config) in raised.value.message
    assert user_config.read_bytes() == content


LITERAL = """\
apiVersion: v1
kind: Config
clusters:
- name: 010
  cluster: {server: 'https://work:6443', insecure-skip-tls-verify: yes}
users:
- name: on
  user:
    token: 0123
    password: 1_000
    username: 12:30
    expiry: 2026-13-45
    other: "0123"
    exec: {args: [--since, 2026-11-25, 1e3, ~, null, 0x1F, "yes"]}
contexts: []
current-context: 0x1F
unknown: !theirs {a: 1}
"""


def test_the_users_formatting_and_comments_are_kept(lab_kubeconfig: Path, user_config: Path) -> None:
    user_config.parent.mkdir()
    user_config.write_text(LITERAL)

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    merged = user_config.read_text()
    for line in LITERAL.splitlines():
        assert line.strip() in {"contexts: []", *map(str.strip, merged.splitlines())}
    assert merged.count("name: demo\n") == 2
    once = user_config.read_bytes()
    user_kubeconfig.merge(lab_kubeconfig, "demo")
    assert user_config.read_bytes() == once


@pytest.mark.parametrize("section", user_kubeconfig.SECTIONS)
@pytest.mark.parametrize("value", ["{a: b}", "text", "[text]", "[[a]]", "1"])
def test_a_section_that_is_not_a_list_of_entries_is_refused(
    lab_kubeconfig: Path, user_config: Path, section: str, value: str
) -> None:
    user_config.parent.mkdir()
    before = f"apiVersion: v1\n{section}: {value}\n"
    user_config.write_text(before)

    with pytest.raises(UsageError, match=section) as raised:
        user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert raised.value.id == "kubeconfig-unreadable"
    assert user_config.read_text() == before


@pytest.mark.parametrize("empty", ["", "null", "~", "[]"])
def test_entries_are_added_to_an_empty_section(lab_kubeconfig: Path, user_config: Path, empty: str) -> None:
    user_config.parent.mkdir()
    user_config.write_text("".join(f"{section}: {empty}\n" for section in user_kubeconfig.SECTIONS))

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    merged = yaml.safe_load(user_config.read_text())
    assert {section: merged[section] for section in user_kubeconfig.SECTIONS} == {
        section: _config("demo")[section] for section in user_kubeconfig.SECTIONS
    }


def test_an_entry_of_the_same_name_is_replaced_in_place(lab_kubeconfig: Path, user_config: Path) -> None:
    user_config.parent.mkdir()
    both = _config("demo", "https://old:6443")
    for section in user_kubeconfig.SECTIONS:
        both[section] += _config("work")[section]
    user_config.write_text(yaml.safe_dump(both))

    user_kubeconfig.merge(lab_kubeconfig, "demo")

    merged = yaml.safe_load(user_config.read_text())
    assert [entry["name"] for entry in merged["clusters"]] == ["demo", "work"]
    assert merged["clusters"][0]["cluster"]["server"] == "https://192.168.56.10:6443"


def test_forget_removes_only_the_labs_entries(lab_kubeconfig: Path, user_config: Path) -> None:
    user_config.parent.mkdir()
    user_config.write_text(yaml.safe_dump(_config("work")))
    before = yaml.safe_load(user_config.read_text())
    user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert user_kubeconfig.forget(lab_kubeconfig, "demo")
    assert yaml.safe_load(user_config.read_text()) == before
    assert not user_kubeconfig.forget(lab_kubeconfig, "demo")


def test_forget_unsets_a_current_context_of_the_lab(lab_kubeconfig: Path, user_config: Path) -> None:
    user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert user_kubeconfig.forget(lab_kubeconfig, "demo")

    assert yaml.safe_load(user_config.read_text()) == {
        "apiVersion": "v1",
        "kind": "Config",
        **{key: [] for key in ("clusters", "users", "contexts")},
        "current-context": "",
    }


def test_forget_removes_the_entries_even_if_the_variable_kubeconfig_has_changed(
    lab_kubeconfig: Path, user_config: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_kubeconfig.merge(lab_kubeconfig, "demo")
    (home / "broken").write_text("clusters: [")
    monkeypatch.setenv("KUBECONFIG", f"{home / 'broken'}:{lab_kubeconfig}")

    with pytest.raises(UsageError, match="broken"):
        user_kubeconfig.forget(lab_kubeconfig, "demo")

    assert yaml.safe_load(user_config.read_text())["users"] == []
    assert yaml.safe_load(lab_kubeconfig.read_text()) == _config("demo")


def test_forget_skips_a_kubeconfig_that_the_user_may_not_read(
    lab_kubeconfig: Path, user_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_kubeconfig.merge(lab_kubeconfig, "demo")
    monkeypatch.setenv("KUBECONFIG", "/root/.kube/config")
    stat_of = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:  # noqa: ANN401 - as the system's own
        if os.fspath(path) == "/root/.kube/config":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat_of(path, **options)

    monkeypatch.setattr(os, "stat", refuse)

    assert user_kubeconfig.forget(lab_kubeconfig, "demo")
    assert yaml.safe_load(user_config.read_text())["users"] == []


def test_forget_keeps_an_entry_that_now_points_to_another_cluster(lab_kubeconfig: Path, user_config: Path) -> None:
    user_kubeconfig.merge(lab_kubeconfig, "demo")
    changed = yaml.safe_load(user_config.read_text())
    changed["clusters"][0]["cluster"]["server"] = "https://10.0.0.1:6443"
    user_config.write_text(yaml.safe_dump(changed))

    assert user_kubeconfig.forget(lab_kubeconfig, "demo")

    assert yaml.safe_load(user_config.read_text())["clusters"] == changed["clusters"]


def test_forget_without_a_kubeconfig_changes_nothing(lab_kubeconfig: Path, user_config: Path) -> None:
    assert not user_kubeconfig.forget(lab_kubeconfig, "demo")
    assert not user_config.exists()


def test_concurrent_writers_lose_nothing(
    lab_kubeconfig: Path, user_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_config.parent.mkdir()
    user_config.write_text(yaml.safe_dump(_config("work")))
    lock = user_config.with_name("config.lock")
    lock.touch()

    def finish_other_write(_seconds: float) -> None:
        user_config.write_text(yaml.safe_dump(_config("theirs")))
        lock.unlink()

    monkeypatch.setattr(user_kubeconfig, "until", partial(wait.until, sleep=finish_other_write))
    user_kubeconfig.merge(lab_kubeconfig, "demo")

    assert [each["name"] for each in yaml.safe_load(user_config.read_text())["contexts"]] == ["theirs", "demo"]
    assert not lock.exists()


def test_a_stale_lock_is_named_but_does_not_matter_if_nothing_changes(
    lab_kubeconfig: Path, user_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_kubeconfig.merge(lab_kubeconfig, "demo")
    before = user_config.read_bytes()
    lock = user_config.with_name("config.lock")
    lock.touch()
    monkeypatch.setattr(user_kubeconfig, "LOCK_SECONDS", 0.0)

    assert user_kubeconfig.merge(lab_kubeconfig, "demo") == user_config
    with pytest.raises(UsageError) as caught:
        user_kubeconfig.forget(lab_kubeconfig, "demo")

    assert caught.value.id == "kubeconfig-locked"
    assert str(lock) in caught.value.message
    assert (user_config.read_bytes(), lock.exists()) == (before, True)
