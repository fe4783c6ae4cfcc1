"""A process that enters a network namespace, and the files and interfaces that only it sees then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracing import start, wait_for_exit

from labctl.host.process import check, run
from labctl.isolation import namespaces

pytestmark = pytest.mark.root


@pytest.fixture
def namespace() -> Iterator[Path]:
    name = f"labctl-test-{os.getpid()}"
    check(["ip", "netns", "add", name])
    yield Path("/run/netns", name)
    check(["ip", "netns", "delete", name])


def test_entering_a_namespace_has_the_effects_of_ip_netns_exec(namespace: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.1 only-inside.test\n")
    (tmp_path / "hosts.a-copy").touch()
    before = Path("/etc/hosts").read_bytes(), _devices()
    groups = _control_groups()

    def in_child() -> None:
        namespaces.enter(namespace, tmp_path)

        assert Path("/etc/hosts").read_text() == "192.0.2.1 only-inside.test\n"
        assert _devices() == ["lo"]
        assert _control_groups() == groups
        assert run(["ip", "-o", "link"]).out.count("\n") == 1
        assert run(["ip", "netns", "identify"]).out.strip() == namespace.name

    assert wait_for_exit(start(in_child)) == 0
    assert (Path("/etc/hosts").read_bytes(), _devices()) == before


def test_a_namespace_without_settings_has_the_machines_files(namespace: Path, tmp_path: Path) -> None:
    def in_child() -> None:
        hosts = Path("/etc/hosts").read_bytes()
        namespaces.enter(namespace, tmp_path / "absent")
        assert Path("/etc/hosts").read_bytes() == hosts

    assert wait_for_exit(start(in_child)) == 0


def test_a_missing_namespace_raises_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        namespaces.enter(tmp_path / "absent", tmp_path)

    (tmp_path / "no-namespace").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        namespaces.enter(tmp_path / "no-namespace", tmp_path)


def _devices() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def _control_groups() -> dict[str, int]:
    """Return the device of each mount of control groups."""
    return {path: Path(path).stat().st_dev for path in namespaces.mounts_below(Path("/sys/fs/cgroup"))}
