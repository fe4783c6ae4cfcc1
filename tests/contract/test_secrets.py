"""Secrets that other users must not read, and checksums that a build must verify, with real programs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fakes import bundle

from labctl.bundle.build import gomodules
from labctl.bundle.build.ingredients import GoModule, GoProgram
from labctl.bundle.build.toolchain import Go
from labctl.bundle.format import write
from labctl.host.process import run
from labctl.model.errors import MissingError

KEYS = ("pki/ca.key", "pki/metallb-webhook.key", "pki/ssh", "pki/token", "pki/memberlist")
DOCKER = """\
#!/bin/sh
for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <"$each" 2>/dev/null; echo; done >>"$0.seen"
echo "2 6.1.0"
"""
"""A fake docker client that records the arguments of every process."""

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")


@dataclass(frozen=True)
class Rendered:
    """A lab's rendered files, labctl's output, and the arguments of every process while it rendered."""

    folder: Path
    out: str
    arguments: str


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """A lab that labctl rendered with umask 0."""
    home = tmp_path_factory.mktemp("rendered")
    write(bundle(home / "bundle"))
    docker = home / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {
        "PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    line = f'umask 0; exec "{sys.executable}" -m labctl -v render --bundle bundle 2>&1'
    finished = run(["sh", "-c", line], env=environment, cwd=home)
    assert finished.code == 0, finished.last_lines
    recorded = docker.with_name("docker.seen").read_text(errors="replace")
    return Rendered(home / "state" / "labctl" / "demo", finished.out, recorded)


def test_keys_and_their_folders_are_private(rendered: Rendered) -> None:
    folder = rendered.folder
    files = [path for path in folder.rglob("*") if path.is_file()]

    assert {str(path.relative_to(folder)) for path in files} >= {*KEYS, "kubeconfig", "manifests/memberlist.yaml"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    private = {folder, folder / "pki", *folder.glob("nodes/*"), folder / "manifests"}
    assert {str(path) for path in private if stat.S_IMODE(path.stat().st_mode) != 0o700} == set()


def test_keys_are_in_no_output_and_no_process_arguments(rendered: Rendered) -> None:
    output = rendered.out + rendered.arguments
    secrets = _secrets(rendered.folder)

    assert "labctl" in rendered.arguments
    assert len(secrets) >= len(KEYS) + 1
    assert [name for name, secret in secrets.items() if secret in output] == []


def test_keys_are_only_in_files_that_need_them(rendered: Rendered) -> None:
    folder = rendered.folder
    needed = {
        "pki/ca.key": {"nodes/demo-control-plane/ca.key"},
        "pki/metallb-webhook.key": set(),  # in manifests/metallb.yaml in base64
        "pki/ssh": set(),
        "pki/token": {f"nodes/demo-{node}/kubeadm.yaml" for node in ("control-plane", "worker-1")},
        "pki/memberlist": {"manifests/memberlist.yaml"},
        "kubeconfig": set(),
    }
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

    for name, secret in _secrets(folder).items():
        assert {path for path, text in files.items() if secret in text} - {name} == needed[name], name


def _secrets(folder: Path) -> dict[str, str]:
    """Return the secret of each file with a key: its longest line, or the kubeconfig's client key."""
    secrets = {name: max((folder / name).read_text().splitlines(), key=len) for name in KEYS}
    secrets["kubeconfig"] = yaml.safe_load((folder / "kubeconfig").read_text())["users"][0]["user"]["client-key-data"]
    return secrets


# Checksums


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Go module proxy in a folder, with the one module of a program; no other server is used."""
    versions = tmp_path / "proxy" / "example.test" / "program" / "@v"
    versions.mkdir(parents=True)
    go_mod = "module example.test/program\n\ngo 1.21\n"
    (versions / "v1.0.0.info").write_text(json.dumps({"Version": "v1.0.0"}))
    (versions / "v1.0.0.mod").write_text(go_mod)
    with zipfile.ZipFile(versions / "v1.0.0.zip", "w") as archive:
        archive.writestr("example.test/program@v1.0.0/go.mod", go_mod)
        archive.writestr("example.test/program@v1.0.0/main.go", "package main\n\nfunc main() {}\n")
    ours = tmp_path / "go" / "program"
    ours.mkdir(parents=True)
    (ours / "go.mod").write_text("module ours\n\ngo 1.21\n\nrequire example.test/program v1.0.0\n")
    monkeypatch.setattr(gomodules, "MODULES", ours.parent)
    for name, value in {
        "GOPROXY": f"file://{tmp_path / 'proxy'}",
        "GOMODCACHE": str(tmp_path / "modules"),
        # Settings that could make Go accept unverified modules:
        "GOFLAGS": "-mod=mod -modcacherw",
        "GOSUMDB": "off",
        "GONOSUMDB": "*",
        "GONOSUMCHECK": "1",
        "GOINSECURE": "*",
        "GOPRIVATE": "*",
        "GONOPROXY": "none",
    }.items():
        monkeypatch.setenv(name, value)
    yield ours
    run(["go", "clean", "-modcache"])  # its files are read-only


@needs_go
def test_a_module_with_another_checksum_is_refused_in_any_environment(proxy: Path, tmp_path: Path) -> None:
    wrong = "h1:" + "A" * 43 + "="
    (proxy / "go.sum").write_text(f"example.test/program v1.0.0 {wrong}\nexample.test/program v1.0.0/go.mod {wrong}\n")

    with pytest.raises(MissingError) as raised:
        _compile(tmp_path)

    assert "checksum mismatch" in "\n".join(raised.value.details)


@needs_go
def test_a_module_without_a_checksum_is_refused_in_any_environment(proxy: Path, tmp_path: Path) -> None:
    (proxy / "go.sum").touch()

    with pytest.raises(MissingError) as raised:
        _compile(tmp_path)

    assert "missing go.sum entry" in "\n".join(raised.value.details)


@needs_go
def test_a_module_with_its_checksum_is_compiled(proxy: Path, tmp_path: Path) -> None:
    assert run(["go", "get", "example.test/program@v1.0.0"], cwd=proxy).code == 0

    _compile(tmp_path)

    assert (tmp_path / "scratch" / "program").exists()


def _compile(folder: Path) -> None:
    (folder / "scratch").mkdir()
    program = GoProgram(GoModule("program"), "example.test/program")
    gomodules.compile_program(Go(), program, folder / "scratch" / "program", "amd64")
