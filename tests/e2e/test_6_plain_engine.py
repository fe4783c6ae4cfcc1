"""A lab in an existing Docker Engine: not isolated, with the Engine's own hosts file, and removed without a trace.

The Engine runs in a network namespace without an uplink, which keeps the lab off the machine's own network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labctl.bundle.images import reference_of

from .engine import dockerd
from .reallab import RealLab, run

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-plain"
ENTER_COMMAND = ("ip", "netns", "exec", NAMESPACE)
FOREIGN_NETWORK = "vagrant_network_172.31.0.0/24"
"""An idle network of another Vagrant project, which Vagrant's own `destroy` would remove."""
KEPT = "kept:1"
"""An image of the user's."""
FOREIGN_HOSTS = b"127.0.0.1\tlocalhost\r\nfe80::1%lo0 localhost\n\n# somebody's last line, without its end"


@dataclass(frozen=True, slots=True)
class PlainEngine:
    """A Docker Engine: its address, and the hosts file of its namespace."""

    address: str
    hosts: Path

    def docker(self, *words: str) -> list[str]:
        return run(*ENTER_COMMAND, "docker", "--host", self.address, *words).split()

    def holds(self) -> dict[str, list[str]]:
        """Return everything in the Engine that a lab could leave behind, and the links of its network."""
        links = json.loads(run("ip", "-n", NAMESPACE, "-j", "link", "show"))
        return {
            "containers": self.docker("ps", "--all", "--quiet"),
            "volumes": self.docker("volume", "ls", "--quiet"),
            "networks": self.docker("network", "ls", "--format", "{{.Name}}"),
            "links": [link["ifname"] for link in links],
        }


@pytest.fixture(scope="module")
def engine(state_home: Path) -> Iterator[PlainEngine]:
    """Yield a Docker Engine in a network of its own."""
    settings = Path("/etc/netns", NAMESPACE)
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        settings.mkdir(parents=True)
        (settings / "hosts").write_bytes(FOREIGN_HOSTS)
        with dockerd(state_home / "plain-engine", NAMESPACE) as address:
            yield PlainEngine(address, settings / "hosts")
    finally:
        run("ip", "netns", "delete", NAMESPACE)
        shutil.rmtree(settings, ignore_errors=True)


@pytest.fixture(scope="module")
def lab(engine: PlainEngine, bundle: Path, state_home: Path) -> Iterator[RealLab]:
    """Yield a lab without `--isolated`."""
    lab = RealLab(
        name="e2e-plain",
        state_home=state_home,
        enter_command=ENTER_COMMAND,
        programs=bundle / "bin",
        up_options=("--yes",),
        launcher=ENTER_COMMAND,
        environment={"DOCKER_HOST": engine.address},
    )
    yield lab
    if lab.folder.exists():
        lab.labctl("destroy", "--yes", "--purge", seconds=120)


def test_up_uses_an_existing_engine(engine: PlainEngine, lab: RealLab, bundle: Path) -> None:
    engine.docker("network", "create", "--subnet=172.31.0.0/24", FOREIGN_NETWORK)
    before = engine.holds()
    *steps, result = lab.up().events()

    assert "isolation" not in {event["step"] for event in steps}
    assert result["urls"] == ["http://my-app.local"]
    status, body = lab.page("http://my-app.local")
    assert (status, "Welcome to nginx!" in body) == (200, True)
    assert lab.labctl("exec", "--", "curl", "-s", "http://my-app.local").out == body
    assert lab.status()["ok"]
    assert sorted(engine.docker("ps", "--format", "{{.Names}}")) == ["e2e-plain-control-plane", "e2e-plain-worker-1"]
    assert engine.hosts.read_bytes().startswith(FOREIGN_HOSTS)
    assert b"\n192.168.56.100 my-app.local" in engine.hosts.read_bytes()

    _assert_a_hostname_of_another_lab_is_refused(engine, lab)
    images = _load_an_image_of_the_engine(engine, lab, bundle / "images" / "pause.tar")
    # `docker network prune` removes the network of a halted lab, because it has no running container.
    lab.labctl("halt")
    engine.docker("network", "rm", "labctl-e2e-plain")
    assert "labctl-e2e-plain" not in engine.docker("network", "ls", "--format", "{{.Name}}")
    assert lab.labctl("-o", "json", "resume", seconds=300).result()["ok"]
    assert lab.page("http://my-app.local") == (200, body)
    assert _loaded_images(lab) == images

    [image] = engine.docker("inspect", "--format", "{{.Config.Image}}", "e2e-plain-worker-1")
    engine.docker("run", "--detach", "--name=theirs", "--network=labctl-e2e-plain", image, "sleep", "600")
    events = lab.labctl("-o", "json", "destroy", "--yes", "--purge", seconds=120).events()

    [left] = [event["text"] for event in events if event.get("step") == "nodes" and event["state"] == "done"]
    assert "labctl-e2e-plain" in left
    assert "theirs" in left
    assert engine.docker("ps", "--all", "--format", "{{.Names}}") == ["theirs"]
    engine.docker("rm", "--force", "--volumes", "theirs")
    engine.docker("network", "rm", "labctl-e2e-plain")
    assert engine.holds() == before
    assert engine.hosts.read_bytes() == FOREIGN_HOSTS
    assert not lab.folder.exists()


def _load_an_image_of_the_engine(engine: PlainEngine, lab: RealLab, archive: Path) -> dict[str, list[str]]:
    engine.docker("image", "load", "--input", str(archive))
    engine.docker("image", "tag", reference_of(archive), KEPT)
    lab.labctl("image", "load", KEPT)
    images = _loaded_images(lab)

    assert images == {f"docker.io/library/{KEPT}": [node["name"] for node in lab.status()["nodes"]]}
    return images


def _loaded_images(lab: RealLab) -> dict[str, list[str]]:
    """Return the nodes that have each loaded image."""
    images = lab.labctl("image", "list", "-o", "json").document()["images"]
    return {image["image"]: image["nodes"] for image in images if image["source"] == "loaded"}


def _assert_a_hostname_of_another_lab_is_refused(engine: PlainEngine, lab: RealLab) -> None:
    before = engine.hosts.read_bytes()
    engine.hosts.write_bytes(b"# BEGIN labctl other\n192.168.60.100 my-app.local\n# END labctl other\n" + before)
    refused = lab.up(code=3).result()["error"]
    doctor = {check["id"]: check for check in lab.labctl("doctor", "-o", "json", code=8).document()["checks"]}
    engine.hosts.write_bytes(before)

    assert refused["id"] == "hostname-taken"
    assert "lab other" in refused["message"]
    assert doctor["hosts-other-labs"]["state"] == "broken"
    assert doctor["hosts-shadows"]["state"] == "ok"
