"""The first run of a release on Debian 13 without Go: `up` downloads its bundle from stand-ins for upstream."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stand_ins import StandIns, WebServer, stand_ins, web_server

from labctl.bundle import Bundle, load
from labctl.bundle.build.build import FAILURE_DETECTOR
from labctl.bundle.download import recipe as recipes
from labctl.bundle.unfinished import architecture

from . import debian13, release
from .debian13 import UPLINK, Debian13, User
from .reallab import Completed

pytestmark = pytest.mark.e2e

RecordProperty = Callable[[str, object], None]
README = Path(__file__).parents[2] / "README.md"
FIRST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class FirstRun:
    """A user of a release whose lab is up, with the events and the duration of the first command."""

    machine: Debian13
    user: User
    events: list[dict[str, Any]]
    seconds: float
    wheel: Path
    servers: StandIns
    go_proxy: WebServer

    def labctl(self, *words: str, code: int = 0, seconds: float = 120.0) -> Completed:
        return self.machine.run(self.user, ".venv/bin/labctl", *words, code=code, seconds=seconds)

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of the only bundle in `bundle list`."""
        [entry] = self.labctl("bundle", "list", "-o", "json").document()["bundles"]
        return dict(entry)

    @property
    def bundle(self) -> Bundle:
        """The bundle, loaded on this machine."""
        return load(self.machine.path(Path(self.entry["folder"])))


@pytest.fixture(scope="module")
def first_run(bundle: Path, state_home: Path) -> Iterator[FirstRun]:
    """Run the README's first command, with the wheel instead of the checkout, as a user who has nothing else."""
    folder = state_home / "first-run"
    folder.mkdir()
    wheel = release.build_wheel(folder)
    with debian13.running(folder / "machine", bundle) as machine:
        user = machine.add_user("robin", sudo=True)
        with (
            stand_ins(load(bundle), folder, UPLINK[0]) as servers,
            web_server(folder / "modules", address=UPLINK[0]) as go_proxy,
        ):
            files = (wheel, servers.recipe, Path(servers.environment["SSL_CERT_FILE"]))
            for file in files:
                shutil.copyfile(file, machine.path(user.home / file.name))
            trusted = str(user.home / files[-1].name)
            settings = {**servers.environment, "SSL_CERT_FILE": trusted, "GOPROXY": go_proxy.url}
            own_machine = replace(machine, environment={**machine.environment, **settings})
            line = _first_command(f"./{wheel.name}", f"labctl -o json up --yes --recipe {servers.recipe.name}")
            started = time.monotonic()
            completed = own_machine.run(user, "sh", "-c", line, seconds=FIRST_SECONDS)
            seconds = time.monotonic() - started
            events = [json.loads(each) for each in completed.out.splitlines() if each.startswith("{")]
            run = FirstRun(own_machine, user, events, seconds, wheel, servers, go_proxy)
            yield run
            run.labctl("destroy", "--yes", "--purge")
    shutil.rmtree(folder)


def _first_command(package: str, up: str) -> str:
    """Return the README's first command with another package and another `up`."""
    match = re.search(r"^```sh\n(.*?)```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert match
    line = match[1].strip().replace("pip install .", f"pip install {package}")
    assert package in line
    assert line.endswith(" labctl up --yes")
    return line.removesuffix("labctl up --yes") + up


def test_one_command_creates_a_lab_that_responds_by_name(first_run: FirstRun, record_property: RecordProperty) -> None:
    record_property("seconds", f"from pip install to HTTP 200 {first_run.seconds:.1f} s")
    result = first_run.events[-1]
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])
    request = ("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://my-app.local")
    assert first_run.machine.run(first_run.user, *request).out == "200"
    assert first_run.labctl("status", "-o", "json").document()["ok"]


def test_up_announces_the_download_once_with_its_size_and_duration(first_run: FirstRun) -> None:
    recipe = recipes.load(first_run.servers.recipe)
    texts = [
        event["text"] for event in first_run.events if (event.get("step"), event.get("state")) == ("bundle", "progress")
    ]

    [announcement] = [text for text in texts if f"{recipe.megabytes} MB" in text]
    assert announcement == texts[0]
    assert "download" in announcement
    assert f"{recipe.minutes} minutes" in announcement


def test_go_is_neither_installed_nor_fetched_nor_run_and_no_module_is_requested(first_run: FirstRun) -> None:
    home = first_run.machine.path(first_run.user.home)
    lines = (home / ".local/state/labctl/demo/log").read_text(encoding="utf-8").splitlines()

    assert first_run.machine.run(first_run.user, "sh", "-c", "command -v go", code=None).out == ""
    assert [line for line in lines if "$ mmdebstrap" in line]
    assert not [line for line in lines if "$ go " in line or "/bin/go " in line]
    assert not list(home.glob(".cache/labctl/toolchains/*/bin/go"))
    assert first_run.go_proxy.requests == []


def test_the_failure_detector_is_the_program_in_the_wheel(first_run: FirstRun) -> None:
    with zipfile.ZipFile(first_run.wheel) as wheel:
        program = wheel.read(f"labctl/bundle/download/failure-detector/linux-{architecture()}")
        checksum = (
            wheel.read(f"labctl/bundle/download/failure-detector/linux-{architecture()}.sha256").decode().split()[0]
        )

    assert hashlib.sha256(program).hexdigest() == checksum
    assert program in first_run.bundle.path(FAILURE_DETECTOR.path).read_bytes()  # its layer is not compressed
    images = first_run.labctl("exec", "--", "kubectl", "get", "pods", "-A", "-o", "json").document()["items"]
    assert {container["image"] for pod in images for container in pod["spec"]["containers"]} >= {
        "registry.k8s.io/etcd:3.7.0-0",
        "registry.k8s.io/coredns/coredns:v1.14.6",
        FAILURE_DETECTOR.made_from.reference,  # type: ignore[union-attr] # it is an image
    }


def test_the_downloaded_bundle_is_listed_verified_and_in_use(first_run: FirstRun) -> None:
    entry = first_run.entry
    assert (entry["maker"], entry["recipe"], entry["kubernetes"]) == ("download", "stand-ins", "1.37.2")
    [verified] = first_run.labctl("bundle", "verify", "-o", "json").document()["bundles"]
    assert verified["id"] == entry["id"]
    refused = first_run.labctl("bundle", "remove", entry["id"], "-o", "json", code=2).result()
    assert refused["error"]["id"] == "bundle-in-use"


def test_an_installed_bundle_is_not_downloaded_again(first_run: FirstRun) -> None:
    before = first_run.servers.request_count

    for command in (("up", "--yes"), ("bundle", "download", "--recipe", first_run.servers.recipe.name)):
        result = first_run.labctl("-o", "json", *command).result()
        assert (result["ok"], result["changed"]) == (True, False)

    assert first_run.servers.request_count == before
