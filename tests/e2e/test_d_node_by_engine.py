"""Without mmdebstrap, a Docker Engine builds the same system for the nodes, and nothing is left in the Engine.

The Engine runs in a network namespace whose only server is a mirror of Debian's packages. Building the whole system
takes more than a minute: `pytest -m sweep tests/e2e/test_d_node_by_engine.py`.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import packages
import pytest
from apt_mirror import Mirror, apt_mirror
from certificates_for import self_signed
from docker_registry import running
from stand_ins import push

from labctl.bundle import images, load
from labctl.bundle.download import by_engine, sources, tools, ways
from labctl.bundle.download.order import DEBIAN
from labctl.bundle.download.recipe import NODE_IMAGE, NodeRow
from labctl.transfer import mirrors
from labctl.transfer.store import BlobStore

from .engine import dockerd
from .reallab import eventually, run

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-by-engine"
NODE = NodeRow(suite="trixie")
BY_HOOK = ("./etc/systemd/system", "./etc/sudoers.d", "./etc/ssh", "./etc/labctl", "./etc/machine-id", "./home")
"""What labctl changes after the packages: masked and enabled units, the user, no identity."""


@dataclass(frozen=True, slots=True)
class Place:
    """A machine with an Engine, its mirrors, and a folder with the archive of Debian's image, as downloads leave it."""

    folder: Path
    engine: str
    debian: Mirror
    table: mirrors.Mirrors
    architecture: str

    def contents(self) -> list[str]:
        """Return what is in the Engine."""
        lines = (("ps", "--all", "--quiet"), ("image", "ls", "--all", "--quiet"), ("volume", "ls", "--quiet"))
        return [word for line in lines for word in run("docker", "--host", self.engine, *line).split()]


@pytest.fixture(scope="module")
def place(bundle: Path, state_home: Path) -> Iterator[Place]:
    packages.install(("dockerd", "docker"), ("docker.io", "?exact-name(docker-cli)"))
    folder, described = state_home / "by-engine", load(bundle)
    folder.mkdir()
    base = folder / "debian.tar"
    # A node's system is a Debian with apt, which is all that is needed of Debian's image.
    images.write_archive(
        base,
        reference=NODE_IMAGE,
        architecture=described.architecture,
        config={"Cmd": ["bash"]},
        layers=[described.path("base/node.tar")],
    )
    target = folder / "made"
    target.mkdir()
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        certificate, key = self_signed(folder)
        options = ("--bridge=none", "--iptables=false")
        with (
            running(folder / "registry", is_guarded=False) as registry,
            apt_mirror(Path("/run/netns", NAMESPACE), certificate, key) as debian,
            dockerd(folder / "engine", NAMESPACE, *options) as engine,
            pytest.MonkeyPatch.context() as patch,
        ):
            push(base, NODE_IMAGE, registry.url)
            patch.setenv("DOCKER_HOST", engine)
            patch.setenv("SSL_CERT_FILE", str(certificate))
            table = mirrors.parse_mirrors({"docker.io": registry.url, DEBIAN: debian.url}, "")
            [image] = sources.images([NODE_IMAGE], described.architecture, table, _ignore)
            sources.fetch_layers([image], store := BlobStore(folder / "blobs"), _ignore)
            sources.pack(store, replace(image, reference=by_engine.base_name(target)), target)
            yield Place(target, engine, debian, table, described.architecture)
    finally:
        run("ip", "netns", "delete", NAMESPACE)


def test_an_interrupted_build_leaves_nothing_in_the_engine(place: Place) -> None:
    script = f"import sys; sys.path[:] = {sys.path!r}; from e2e.test_d_node_by_engine import build_from_arguments; build_from_arguments()"
    words = (place.architecture, place.table.table[DEBIAN], str(place.folder))
    with subprocess.Popen([sys.executable, "-c", script, *words]) as child:
        eventually(lambda: place.debian.requests, bool, seconds=60)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) != 0

    assert place.contents() == []
    assert [path.name for path in place.folder.iterdir()] == [by_engine.BASE]


@pytest.mark.sweep
def test_the_engine_builds_the_same_system_as_mmdebstrap(
    place: Place, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").symlink_to(shutil.which("docker") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.way_to_make_node(place.architecture) is ways.ENGINE

    tools.make_node(NODE, place.architecture, place.table, place.folder)

    described = load(bundle)
    assert _names(place.folder / "node.packages") == _names(described.path("base/node.packages"))
    ours, theirs = (_members(system) for system in (place.folder / "node.tar", described.path("base/node.tar")))
    assert ours == theirs
    assert len(ours) > len(BY_HOOK)
    assert [path for path in place.debian.requests if path.endswith("/InRelease")]
    assert place.contents() == []


def build_from_arguments() -> None:
    """Build a node's system in a separate process, from its command-line arguments."""
    architecture, debian, folder = sys.argv[1:]
    tools.make_node(NODE, architecture, mirrors.parse_mirrors({DEBIAN: debian}, ""), Path(folder))


def _members(system: Path) -> dict[str, tuple[bytes, int, int, int, int, str]]:
    with tarfile.open(system) as tar:
        members = [member for member in tar if member.name.startswith(BY_HOOK)]
    return {each.name: (each.type, each.mode, each.uid, each.gid, each.size, each.linkname) for each in members}


def _names(listing: Path) -> list[str]:
    return [line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines()]


def _ignore(_text: str) -> None:
    pass
