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
from .reallab import Ran

pytestmark = pytest.mark.e2e

Record = Callable[[str, object], None]
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

    def labctl(self, *words: str, code: int = 0, seconds: float = 120.0) -> Ran:
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
    wheel = release.built(folder)
    with debian13.running(folder / "machine", bundle) as machine:
        user = machine.add_user("robin", sudo=True)
        with (
            stand_ins(load(bundle), folder, UPLINK[0]) as servers,
            web_server(folder / "modules", address=UPLINK[0]) as go_proxy,
        ):
            given = (wheel, servers.recipe, Path(servers.environment["SSL_CERT_FILE"]))
            for file in given:
                shutil.copyfile(file, machine.path(user.home / file.name))
            trusted = str(user.home / given[-1].name)
            settings = {**servers.environment, "SSL_CERT_FILE": trusted, "GOPROXY": go_proxy.url}
            users = replace(machine, environment={**machine.environment, **settings})
            line = _first_command(f"./{wheel.name}", f"labctl -o json up --yes --recipe {servers.recipe.name}")
            started = time.monotonic()
            ran = users.run(user, "sh", "-c", line, seconds=FIRST_SECONDS)
            seconds = time.monotonic() - started
            events = [json.loads(each) for each in ran.out.splitlines() if each.startswith("{")]
            run = FirstRun(users, user, events, seconds, wheel, servers, go_proxy)
            yield run
            run.labctl("destroy", "--yes", "--purge")
    shutil.rmtree(folder)


def _first_command(package: str, up: str) -> str:
    """Return the README's first command with another package and another `up`."""
    found = re.search(r"^```sh\n(.*?)```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    line = found[1].strip().replace("pip install .", f"pip install {package}")
    assert package in line
    assert line.endswith(" labctl up --yes")
    return line.removesuffix("labctl up --yes") + up


def test_one_command_makes_a_lab_that_answers_by_name(first_run: FirstRun, record_property: Record) -> None:
    record_property("seconds", f"from pip install to HTTP 200 {first_run.seconds:.1f} s")
    result = first_run.events[-1]
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])
    shown = ("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://my-app.local")
    assert first_run.machine.run(first_run.user, *shown).out == "200"
    assert first_run.labctl("status", "-o", "json").document()["ok"]


def test_up_says_once_where_the_bundle_comes_from_and_what_that_takes(first_run: FirstRun) -> None:
    recipe = recipes.load(first_run.servers.recipe)
    texts = [
        event["text"] for event in first_run.events if (event.get("step"), event.get("state")) == ("bundle", "progress")
    ]

    [said] = [text for text in texts if f"{recipe.megabytes} MB" in text]
    assert said == texts[0]
    assert "download" in said
    assert f"{recipe.minutes} minutes" in said


def test_no_go_is_there_or_fetched_or_started_and_no_module_asked_for(first_run: FirstRun) -> None:
    home = first_run.machine.path(first_run.user.home)
    lines = (home / ".local/state/labctl/demo/log").read_text(encoding="utf-8").splitlines()

    assert first_run.machine.run(first_run.user, "sh", "-c", "command -v go", code=None).out == ""
    assert [line for line in lines if "$ mmdebstrap" in line]
    assert not [line for line in lines if "$ go " in line or "/bin/go " in line]
    assert not list(home.glob(".cache/labctl/toolchains/*/bin/go"))
    assert first_run.go_proxy.asked == []


def test_the_failure_detector_is_the_program_that_the_wheel_carries(first_run: FirstRun) -> None:
    with zipfile.ZipFile(first_run.wheel) as wheel:
        program = wheel.read(f"labctl/bundle/download/failure-detector/linux-{architecture()}")
        said = wheel.read(f"labctl/bundle/download/failure-detector/linux-{architecture()}.sha256").decode().split()[0]

    assert hashlib.sha256(program).hexdigest() == said
    assert program in first_run.bundle.path(FAILURE_DETECTOR.path).read_bytes()  # its layer is not compressed
    images = first_run.labctl("exec", "--", "kubectl", "get", "pods", "-A", "-o", "json").document()["items"]
    assert {container["image"] for pod in images for container in pod["spec"]["containers"]} >= {
        "registry.k8s.io/etcd:3.7.0-0",
        "registry.k8s.io/coredns/coredns:v1.14.6",
        FAILURE_DETECTOR.made_from.reference,  # type: ignore[union-attr] # it is an image
    }


def test_it_is_a_bundle_like_any_other_and_the_labs(first_run: FirstRun) -> None:
    entry = first_run.entry
    assert (entry["maker"], entry["recipe"], entry["kubernetes"]) == ("download", "stand-ins", "1.37.2")
    [verified] = first_run.labctl("bundle", "verify", "-o", "json").document()["bundles"]
    assert verified["id"] == entry["id"]
    refused = first_run.labctl("bundle", "remove", entry["id"], "-o", "json", code=2).result()
    assert refused["error"]["id"] == "bundle-in-use"


def test_what_is_there_is_not_downloaded_again(first_run: FirstRun) -> None:
    asked = first_run.servers.asked

    for command in (("up", "--yes"), ("bundle", "download", "--recipe", first_run.servers.recipe.name)):
        result = first_run.labctl("-o", "json", *command).result()
        assert (result["ok"], result["changed"]) == (True, False)

    assert first_run.servers.asked == asked
