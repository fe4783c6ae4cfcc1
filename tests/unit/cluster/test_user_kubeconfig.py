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
def ours(home: Path) -> Path:
    path = home / "lab-kubeconfig"
    path.write_text(yaml.safe_dump(_config("demo")))
    return path


@pytest.fixture
def theirs(home: Path) -> Path:
    """The path of the user's kubeconfig, which does not exist yet."""
    return home / ".kube" / "config"


def test_a_user_without_a_kubeconfig_gets_one_that_only_they_can_read(ours: Path, theirs: Path) -> None:
    assert user_kubeconfig.merge(ours, "demo") == theirs

    assert yaml.safe_load(theirs.read_text()) == _config("demo")
    assert theirs.stat().st_mode & 0o077 == 0


def test_other_entries_and_the_current_context_stay_and_the_file_is_kept(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    before = yaml.safe_dump({**_config("work"), "preferences": {"colors": True}})
    theirs.write_text(before)

    user_kubeconfig.merge(ours, "demo")

    merged = yaml.safe_load(theirs.read_text())
    assert [context["name"] for context in merged["contexts"]] == ["work", "demo"]
    assert merged["current-context"] == "work"
    assert merged["preferences"] == {"colors": True}
    assert theirs.with_name("config.before-labctl").read_text() == before


def test_the_users_file_and_its_copy_keep_mode_and_owner(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[object] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda _copy, *owner: owners.append(owner))
    monkeypatch.setattr(os, "fchown", lambda _file, *owner: owners.append(owner))
    theirs.parent.mkdir(mode=0o755)
    theirs.write_text(yaml.safe_dump(_config("work")))
    theirs.chmod(0o640)
    owner = (theirs.stat().st_uid, theirs.stat().st_gid)

    user_kubeconfig.merge(ours, "demo")

    assert owners == [owner, owner]
    for path in (theirs, theirs.with_name("config.before-labctl")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path
    assert stat.S_IMODE(theirs.parent.stat().st_mode) == 0o755


def test_no_copy_takes_the_place_of_an_earlier_one_and_nothing_to_do_makes_none(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    contents = []
    for name in ("work", "home", "work"):
        contents.append(yaml.safe_dump(_config(name)))
        theirs.write_text(contents[-1])
        for _ in range(2):
            user_kubeconfig.merge(ours, "demo")

    copies = {path.name: path.read_text() for path in theirs.parent.iterdir() if path != theirs}
    assert copies == {"config.before-labctl": contents[0], "config.before-labctl-2": contents[1]}


def test_a_file_that_cannot_be_written_is_an_error_and_stays(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs.parent.mkdir()
    theirs.write_text(yaml.safe_dump(_config("work")))
    before = theirs.read_bytes()

    def full(*_arguments: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError) as raised:
        user_kubeconfig.merge(ours, "demo")

    assert raised.value.id == "kubeconfig-unwritable"
    assert theirs.read_bytes() == before


def test_the_entries_of_an_earlier_lab_of_that_name_are_replaced(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    theirs.write_text(yaml.safe_dump(_config("demo", "https://old:6443")))

    user_kubeconfig.merge(ours, "demo")

    assert yaml.safe_load(theirs.read_text()) == _config("demo")


def test_empty_sections_are_no_obstacle(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    theirs.write_text("apiVersion: v1\nkind: Config\nclusters: null\nusers: []\n")

    user_kubeconfig.merge(ours, "demo")

    assert yaml.safe_load(theirs.read_text()) == _config("demo")


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
def test_the_file_is_the_one_that_kubectl_would_write_behind_links_and_not_the_labs_own(
    ours: Path, home: Path, monkeypatch: pytest.MonkeyPatch, named: str, written: str
) -> None:
    (home / "real").write_text(yaml.safe_dump(_config("work")))
    (home / "link").symlink_to("real")
    monkeypatch.setenv("KUBECONFIG", ":".join(entry and str(home / entry) for entry in named.split(":")))

    assert user_kubeconfig.merge(ours, "demo") == home / written
    assert (home / "link").is_symlink()
    assert [name for name in ("absent", "last") if (home / name).exists()] == [written] * (
        written in {"absent", "last"}
    )


def test_clusters_that_programs_have_added_to_the_labs_own_file_are_none_of_the_labs(ours: Path, theirs: Path) -> None:
    added = _config("kind-x")
    ours.write_text(
        yaml.safe_dump({**added, **{key: _config("demo")[key] + added[key] for key in user_kubeconfig.SECTIONS}})
    )

    user_kubeconfig.merge(ours, "demo")
    assert yaml.safe_load(theirs.read_text()) == _config("demo")

    theirs.write_text(ours.read_text())
    assert user_kubeconfig.forget(ours, "demo")
    assert [entry["name"] for entry in yaml.safe_load(theirs.read_text())["users"]] == ["kind-x-admin"]


@pytest.mark.parametrize(
    "content", ["", "apiVersion: v1\nkind: Config\ncurrent-context: ''\n", "kind: Config\ncurrent-context:\n"]
)
def test_an_empty_file_or_one_without_a_current_context_gets_the_labs(ours: Path, theirs: Path, content: str) -> None:
    theirs.parent.mkdir()
    theirs.write_text(content)

    user_kubeconfig.merge(ours, "demo")

    merged = yaml.safe_load(theirs.read_text())
    assert (merged["kind"], merged["current-context"], len(merged["users"])) == ("Config", "demo", 1)


@pytest.mark.parametrize("content", [b"a: [1", b"just text", b"\xff\xfe\x00"])
def test_a_file_that_is_no_kubeconfig_is_left_alone(ours: Path, theirs: Path, content: bytes) -> None:
    theirs.parent.mkdir()
    theirs.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        user_kubeconfig.merge(ours, "demo")

    assert raised.value.id == "kubeconfig-unreadable"
    assert str(theirs) in raised.value.message
    assert theirs.read_bytes() == content


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


def test_what_the_user_has_stays_as_it_is_written(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    theirs.write_text(LITERAL)

    user_kubeconfig.merge(ours, "demo")

    merged = theirs.read_text()
    for line in LITERAL.splitlines():
        assert line.strip() in {"contexts: []", *map(str.strip, merged.splitlines())}
    assert merged.count("name: demo\n") == 2
    once = theirs.read_bytes()
    user_kubeconfig.merge(ours, "demo")
    assert theirs.read_bytes() == once


@pytest.mark.parametrize("section", user_kubeconfig.SECTIONS)
@pytest.mark.parametrize("value", ["{a: b}", "text", "[text]", "[[a]]", "1"])
def test_a_section_that_is_no_list_of_entries_is_refused(ours: Path, theirs: Path, section: str, value: str) -> None:
    theirs.parent.mkdir()
    before = f"apiVersion: v1\n{section}: {value}\n"
    theirs.write_text(before)

    with pytest.raises(UsageError, match=section) as raised:
        user_kubeconfig.merge(ours, "demo")

    assert raised.value.id == "kubeconfig-unreadable"
    assert theirs.read_text() == before


@pytest.mark.parametrize("empty", ["", "null", "~", "[]"])
def test_an_empty_section_takes_the_entries(ours: Path, theirs: Path, empty: str) -> None:
    theirs.parent.mkdir()
    theirs.write_text("".join(f"{section}: {empty}\n" for section in user_kubeconfig.SECTIONS))

    user_kubeconfig.merge(ours, "demo")

    merged = yaml.safe_load(theirs.read_text())
    assert {section: merged[section] for section in user_kubeconfig.SECTIONS} == {
        section: _config("demo")[section] for section in user_kubeconfig.SECTIONS
    }


def test_an_entry_of_the_same_name_is_replaced_in_its_place(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    both = _config("demo", "https://old:6443")
    for section in user_kubeconfig.SECTIONS:
        both[section] += _config("work")[section]
    theirs.write_text(yaml.safe_dump(both))

    user_kubeconfig.merge(ours, "demo")

    merged = yaml.safe_load(theirs.read_text())
    assert [entry["name"] for entry in merged["clusters"]] == ["demo", "work"]
    assert merged["clusters"][0]["cluster"]["server"] == "https://192.168.56.10:6443"


def test_a_lab_that_is_destroyed_takes_its_entries_along_and_no_others(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    theirs.write_text(yaml.safe_dump(_config("work")))
    before = yaml.safe_load(theirs.read_text())
    user_kubeconfig.merge(ours, "demo")

    assert user_kubeconfig.forget(ours, "demo")
    assert yaml.safe_load(theirs.read_text()) == before
    assert not user_kubeconfig.forget(ours, "demo")


def test_a_current_context_that_was_the_labs_is_unset(ours: Path, theirs: Path) -> None:
    user_kubeconfig.merge(ours, "demo")

    assert user_kubeconfig.forget(ours, "demo")

    assert yaml.safe_load(theirs.read_text()) == {
        "apiVersion": "v1",
        "kind": "Config",
        **{key: [] for key in ("clusters", "users", "contexts")},
        "current-context": "",
    }


def test_what_was_merged_is_forgotten_whatever_kubeconfig_says_now(
    ours: Path, theirs: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_kubeconfig.merge(ours, "demo")
    (home / "broken").write_text("clusters: [")
    monkeypatch.setenv("KUBECONFIG", f"{home / 'broken'}:{ours}")

    with pytest.raises(UsageError, match="broken"):
        user_kubeconfig.forget(ours, "demo")

    assert yaml.safe_load(theirs.read_text())["users"] == []
    assert yaml.safe_load(ours.read_text()) == _config("demo")


def test_a_kubeconfig_that_the_user_may_not_see_has_nothing_to_forget(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_kubeconfig.merge(ours, "demo")
    monkeypatch.setenv("KUBECONFIG", "/root/.kube/config")
    see = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:  # noqa: ANN401 - as the system's own
        if os.fspath(path) == "/root/.kube/config":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return see(path, **options)

    monkeypatch.setattr(os, "stat", refuse)

    assert user_kubeconfig.forget(ours, "demo")
    assert yaml.safe_load(theirs.read_text())["users"] == []


def test_an_entry_that_is_another_clusters_by_now_stays(ours: Path, theirs: Path) -> None:
    user_kubeconfig.merge(ours, "demo")
    changed = yaml.safe_load(theirs.read_text())
    changed["clusters"][0]["cluster"]["server"] = "https://10.0.0.1:6443"
    theirs.write_text(yaml.safe_dump(changed))

    assert user_kubeconfig.forget(ours, "demo")

    assert yaml.safe_load(theirs.read_text())["clusters"] == changed["clusters"]


def test_without_a_kubeconfig_there_is_nothing_to_forget(ours: Path, theirs: Path) -> None:
    assert not user_kubeconfig.forget(ours, "demo")
    assert not theirs.exists()


def test_two_programs_that_write_at_once_lose_nothing(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs.parent.mkdir()
    theirs.write_text(yaml.safe_dump(_config("work")))
    lock = theirs.with_name("config.lock")
    lock.touch()

    def others_end(_seconds: float) -> None:
        theirs.write_text(yaml.safe_dump(_config("theirs")))
        lock.unlink()

    monkeypatch.setattr(user_kubeconfig, "until", partial(wait.until, sleep=others_end))
    user_kubeconfig.merge(ours, "demo")

    assert [each["name"] for each in yaml.safe_load(theirs.read_text())["contexts"]] == ["theirs", "demo"]
    assert not lock.exists()


def test_a_lock_that_stays_is_named_and_is_no_obstacle_where_nothing_changes(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_kubeconfig.merge(ours, "demo")
    before = theirs.read_bytes()
    lock = theirs.with_name("config.lock")
    lock.touch()
    monkeypatch.setattr(user_kubeconfig, "LOCK_SECONDS", 0.0)

    assert user_kubeconfig.merge(ours, "demo") == theirs
    with pytest.raises(UsageError) as caught:
        user_kubeconfig.forget(ours, "demo")

    assert caught.value.id == "kubeconfig-locked"
    assert str(lock) in caught.value.message
    assert (theirs.read_bytes(), lock.exists()) == (before, True)
