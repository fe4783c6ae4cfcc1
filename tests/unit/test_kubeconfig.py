"""A lab's entries in the user's own kubeconfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl import kubeconfig
from labctl.errors import UsageError


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
    """Where kubectl keeps the user's; it is not there yet."""
    return home / ".kube" / "config"


def test_a_user_without_a_kubeconfig_gets_one_that_only_they_can_read(ours: Path, theirs: Path) -> None:
    assert kubeconfig.merge(ours) == theirs

    assert yaml.safe_load(theirs.read_text()) == _config("demo")
    assert theirs.stat().st_mode & 0o077 == 0


def test_other_entries_and_the_current_context_stay_and_the_file_is_kept(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    before = yaml.safe_dump({**_config("work"), "preferences": {"colors": True}})
    theirs.write_text(before)

    kubeconfig.merge(ours)

    merged = yaml.safe_load(theirs.read_text())
    assert [context["name"] for context in merged["contexts"]] == ["work", "demo"]
    assert merged["current-context"] == "work"
    assert merged["preferences"] == {"colors": True}
    assert theirs.with_name("config.before-labctl").read_text() == before


def test_the_entries_of_an_earlier_lab_of_that_name_are_replaced(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    theirs.write_text(yaml.safe_dump(_config("demo", "https://old:6443")))

    kubeconfig.merge(ours)

    assert yaml.safe_load(theirs.read_text()) == _config("demo")


def test_empty_sections_are_no_obstacle(ours: Path, theirs: Path) -> None:
    theirs.parent.mkdir()
    theirs.write_text("apiVersion: v1\nkind: Config\nclusters: null\nusers: []\n")

    kubeconfig.merge(ours)

    assert yaml.safe_load(theirs.read_text()) == _config("demo")


def test_the_file_is_the_first_that_kubectl_would_read_behind_links(
    ours: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "real").write_text(yaml.safe_dump(_config("work")))
    (home / "link").symlink_to("real")
    monkeypatch.setenv("KUBECONFIG", f":{home / 'link'}:{home / 'second'}")

    assert kubeconfig.merge(ours) == home / "real"
    assert (home / "link").is_symlink()
    assert not (home / "second").exists()


@pytest.mark.parametrize("content", [b"a: [1", b"just text", b"\xff\xfe\x00"])
def test_a_file_that_is_no_kubeconfig_is_left_alone(ours: Path, theirs: Path, content: bytes) -> None:
    theirs.parent.mkdir()
    theirs.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        kubeconfig.merge(ours)

    assert raised.value.id == "kubeconfig-unreadable"
    assert str(theirs) in raised.value.message
    assert theirs.read_bytes() == content
