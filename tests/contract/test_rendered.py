"""Rendered files, read by the programs that use them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from fakes import VERSIONS, bundle

from labctl import cli
from labctl.bundle.format import write
from labctl.cli.man import pages
from labctl.cli.tree import tree
from labctl.host.process import check, run
from labctl.render.templates import _ruby

CHECKOUT = Path(__file__).parents[2]
GOLDEN = CHECKOUT / "tests" / "golden"

needs_ruby = pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby, which Vagrant depends on, is not installed")


@pytest.mark.parametrize("script", sorted(GOLDEN.rglob("*.sh")), ids=lambda path: str(path.relative_to(GOLDEN)))
def test_bash_parses_every_script(script: Path) -> None:
    check(["bash", "-n", script])


@needs_ruby
@pytest.mark.parametrize("file", sorted(GOLDEN.rglob("Vagrantfile")), ids=lambda path: path.parent.name)
def test_ruby_parses_every_vagrantfile(file: Path) -> None:
    assert check(["ruby", "-c", file]).strip() == "Syntax OK"


@pytest.mark.skipif(shutil.which("vagrant") is None, reason="Vagrant is not installed")
@pytest.mark.parametrize("name", ["libvirt", "libvirt-without-kvm", "virtualbox"])
def test_vagrant_accepts_every_option_of_machines(name: str, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / name / "Vagrantfile", tmp_path)
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ssh").touch()
    provider = name.partition("-")[0]
    environment = {
        **os.environ,
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_DEFAULT_PROVIDER": provider,
    }
    if provider == "libvirt" and "vagrant-libvirt" not in check(["vagrant", "plugin", "list"], env=environment):
        pytest.skip("vagrant-libvirt is not installed")

    # Vagrant needs VBoxManage to validate VirtualBox's options, so they are left to `ruby -c`.
    options = ["--ignore-provider"] if provider == "virtualbox" else []
    check(["vagrant", "validate", *options], env=environment, cwd=tmp_path)


@needs_ruby
def test_no_value_breaks_out_of_a_ruby_string() -> None:
    values = [
        '"; exit 1 #',
        "#{exit 1}",
        "#$0 #@x",
        "\\",
        "\\#{exit 1}",
        "two\nlines\t\0",
        "é 😀 \u2028",
        "'",
        "%x(id)",
    ]
    program = "".join(f"STDOUT.write({_ruby(value)}, 1.chr)\n" for value in values)

    assert check(["ruby", "-Ku", "-"], stdin=program.encode()).split("\1")[:-1] == values


@pytest.mark.slow
def test_the_wheel_has_manual_pages_and_templates_and_renders_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    check([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, CHECKOUT])
    (wheel,) = tmp_path.glob("*.whl")
    check([*pip, "install", "--no-deps", "--target", tmp_path / "installed", wheel])
    assert {page.name for page in (tmp_path / "installed/share/man/man1").iterdir()} == set(pages(tree(cli.app)))
    write(bundle(tmp_path / "bundle"))
    _fake_docker(tmp_path / "bin")
    environment = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "installed"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    line = [sys.executable, "-m", "labctl", "render", "--out", "out", "--bundle", "bundle"]
    finished = run(line, env=environment, cwd=tmp_path)

    assert finished.code == 0, finished.last_lines
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"Vagrantfile", "kubeconfig", "nodes/demo-worker-1/bootstrap.sh", "manifests/app-my-app.yaml"} <= written
    assert f"v{VERSIONS['kubernetes']}" in (tmp_path / "out/nodes/demo-control-plane/kubeadm.yaml").read_text()
    assert not (tmp_path / "state" / "labctl" / "demo" / "lab.json").exists()


def _fake_docker(folder: Path) -> None:
    """Write a `docker` that answers like the Engine of a current machine."""
    folder.mkdir()
    (folder / "docker").write_text('#!/bin/sh\necho "2 6.1.0"\n')
    (folder / "docker").chmod(0o755)
