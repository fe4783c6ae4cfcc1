"""labctl on Debian 13 with its own Docker Engine and Vagrant: as root by the README's first command, and as a user."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.bundle.build import toolchain

from . import debian13
from .debian13 import BUNDLE, PACKAGES, ROOT, Debian13, User
from .reallab import Completed

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]
BUILT_FROM = ("labctl", "templates", "Vagrantfile.j2", "docs", "pyproject.toml", "README.md", "LICENSE")
"""The parts of the checkout that labctl's package is built from."""
HOSTS = Path("/etc/hosts")
FOREIGN = "vagrant_network_172.31.0.0/24"
"""A network of another project: Vagrant's own destroy removes every idle network with such a name."""
BUILD_PROGRAM = """
import subprocess
from pathlib import Path
from labctl.bundle.build import debian, toolchain
from labctl.bundle.build.ingredients import DebianPackages

architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
cache = Path.home() / ".cache/labctl"
cache.mkdir(parents=True, exist_ok=True)
debian.extract(DebianPackages("trixie", ("base-files",), ()), cache / "image.tar", architecture)
debian.write_listing(cache / "image.tar", cache / "image.packages")
print((cache / "image.packages").read_text())
print(toolchain.find_go(cache, architecture, lambda text: None).version())
"""
ENTRY = "192.168.56.100 my-app.local"
INSTALL_SECONDS = 180.0
UP_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class LabctlUser:
    """A user who has installed labctl on a machine."""

    machine: Debian13
    user: User
    program: str

    def labctl(self, *words: str, code: int = 0, seconds: float = 60.0) -> Completed:
        return self.machine.run(self.user, self.program, *words, code=code, seconds=seconds, LABCTL_BUNDLE=BUNDLE)

    def up(self) -> dict[str, Any]:
        return self.labctl("-o", "json", "up", "--yes", seconds=UP_SECONDS).result()

    def destroy(self) -> dict[str, Any]:
        return self.labctl("-o", "json", "destroy", "--yes", "--purge", seconds=120).result()

    def query(self, command: str, code: int) -> Any:  # noqa: ANN401 - JSON
        return self.labctl(command, "-o", "json", code=code).document()


@pytest.fixture(scope="module")
def machine(bundle: Path, state_home: Path) -> Iterator[Debian13]:
    """Yield the machine, with a foreign network in its Engine."""
    folder = state_home / debian13.NAME
    folder.mkdir()
    with debian13.running(folder, bundle) as running:
        running.run(ROOT, "docker", "network", "create", "--subnet=172.31.0.0/24", FOREIGN)
        yield running
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kim(machine: Debian13) -> LabctlUser:
    """Return a user who may use sudo and has installed labctl."""
    return _install(machine, machine.add_user("kim", sudo=True))


@pytest.fixture(autouse=True)
def _nothing_is_left(machine: Debian13) -> Iterator[None]:
    """Check that each test leaves the Engine, the interfaces and the hosts file unchanged."""
    before = _state(machine)
    yield
    assert _state(machine) == before


def _state(machine: Debian13) -> dict[str, object]:
    docker = {
        what: machine.run(ROOT, "docker", *command).out.split()
        for what, command in {
            "containers": ("ps", "--all", "--quiet"),
            "volumes": ("volume", "ls", "--quiet"),
            "networks": ("network", "ls", "--format={{.Name}}"),
        }.items()
    }
    links = [link["ifname"] for link in json.loads(machine.run(ROOT, "ip", "-j", "link", "show").out)]
    return {**docker, "links": links, "hosts": machine.path(HOSTS).read_bytes()}


def _checkout(machine: Debian13, user: User) -> str:
    """Give the user a copy of what labctl is built from; return its folder."""
    folder = user.home / "checkout"
    for name in BUILT_FROM:
        source, target = CHECKOUT / name, machine.path(folder / name)
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    machine.run(ROOT, "chown", "--recursive", f"{user.name}:", str(folder))
    return str(folder)


def _install(machine: Debian13, user: User) -> LabctlUser:
    """Install labctl in a virtual environment of the user."""
    line = "python3 -m venv ~/lab && ~/lab/bin/pip install --quiet ."
    machine.run(user, "sh", "-c", line, folder=_checkout(machine, user), seconds=INSTALL_SECONDS)
    return LabctlUser(machine, user, f"{user.home}/lab/bin/labctl")


def _page(user: LabctlUser, address: str) -> str:
    return user.machine.run(user.user, "curl", "-s", "-m", "10", "-H", "Host: my-app.local", f"http://{address}").out


def _readme() -> str:
    return (CHECKOUT / "README.md").read_text(encoding="utf-8")


def _first_command() -> str:
    """Return the first command of the README."""
    match = re.search(r"^```sh\n(.*?)```$", _readme(), re.MULTILINE | re.DOTALL)
    assert match
    assert match[1].endswith("labctl up --yes\n")
    return match[1].strip()


def test_the_machine_has_the_packages_that_the_readme_lists() -> None:
    (line,) = re.findall(r"^sudo apt-get install --no-install-recommends (.*)$", _readme(), re.MULTILINE)

    assert {re.sub(r".*\(|\).*", "", word) for word in line.split()} <= {*PACKAGES}


def test_the_readmes_first_command_brings_a_lab_up_as_root(machine: Debian13) -> None:
    folder = _checkout(machine, ROOT)
    line = ("sh", "-c", _first_command())

    machine.run(ROOT, *line, folder=folder, seconds=INSTALL_SECONDS + UP_SECONDS, LABCTL_BUNDLE=BUNDLE)

    root = LabctlUser(machine, ROOT, f"{folder}/.venv/bin/labctl")
    assert "Welcome to nginx!" in _page(root, "my-app.local")
    assert root.query("status", 0)["ok"]
    assert root.destroy()["ok"]


def test_a_user_with_sudo_needs_nothing_else(kim: LabctlUser) -> None:
    machine = kim.machine

    result = kim.up()

    assert (result["urls"], result["hosts"]) == (["http://my-app.local"], "written")
    owned = machine.path(HOSTS).stat()
    assert (owned.st_uid, owned.st_gid, owned.st_mode & 0o7777) == (0, 0, 0o644)
    assert "Welcome to nginx!" in _page(kim, "my-app.local")
    assert kim.query("status", 0)["ok"]
    assert kim.query("trace", 0)["ok"]
    machine.run(kim.user, "sudo", kim.program, "status", code=None)  # whatever its result, it must leave no files
    assert kim.destroy()["hosts"] == "written"
    assert machine.owned_by_root(kim.user) == []


def test_a_user_builds_the_parts_of_a_bundle(kim: LabctlUser) -> None:
    """The machine has neither Go nor pip, and nobody else can enter the user's home."""
    python = kim.program.replace("labctl", "python")

    output = kim.machine.run(kim.user, python, "-c", BUILD_PROGRAM, seconds=INSTALL_SECONDS).out.split()

    assert (output[0], output[-1]) == ("base-files", toolchain.GO.version)


def test_a_user_without_sudo_has_a_lab_and_gets_the_missing_hosts_line(machine: Debian13) -> None:
    alex = _install(machine, machine.add_user("alex", sudo=False))
    hosts = machine.path(HOSTS).read_bytes()

    result = alex.up()

    assert (result["urls"], result["hosts"]) == (["http://my-app.local"], "pending")
    assert machine.path(HOSTS).read_bytes() == hosts
    assert "Welcome to nginx!" in _page(alex, "192.168.56.100")
    status = alex.query("status", 8)
    assert [problem["id"] for problem in status["problems"]] == ["hosts-entry-missing"]
    assert status["apps"][0]["http"] == 200
    name, *others = alex.query("trace", 8)["hops"]
    assert (name["hop"], name["state"], name["cause"]) == ("name", "broken", "hosts-entry-missing")
    assert ENTRY in name["fix"]
    assert {hop["state"] for hop in others} == {"not reached"}
    for line in (("add", "shop"), ("remove", "shop")):
        assert alex.labctl("-o", "json", "app", *line, seconds=120).result()["hosts"] == "pending"
    refused = alex.labctl("-o", "json", "hosts", "sync", code=7).document()["error"]
    (command,) = re.findall(r"echo .*", refused["hint"])
    assert machine.path(HOSTS).read_bytes() == hosts

    machine.run(ROOT, "sh", "-c", command)  # an administrator runs it

    assert alex.query("status", 0)["ok"]
    assert "Welcome to nginx!" in _page(alex, "my-app.local")
    machine.path(HOSTS).write_bytes(hosts)
    alex.destroy()
    assert machine.owned_by_root(alex.user) == []
