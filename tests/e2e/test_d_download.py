"""A bundle that is downloaded from stand-ins of upstream's servers, without any Go, boots a lab like one that was built."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import packages
import pytest
from stand_ins import StandIns, stand_ins

from labctl.bundle import load

from . import footprint
from .reallab import RealLab, isolated

pytestmark = pytest.mark.e2e

Record = Callable[[str, object], None]
DOWNLOAD_SECONDS = 600.0
WITHOUT_GO = {"GOPROXY": "off", "PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"}
"""Neither a module nor a toolchain can be had."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A lab whose bundle was downloaded, and what the download said and took."""

    lab: RealLab
    events: list[dict[str, Any]]
    seconds: float
    cache: Path
    servers: StandIns


@pytest.fixture(scope="module")
def downloaded(bundle: Path, state_home: Path) -> Iterator[Downloaded]:
    packages.bring(("docker-registry",), ("docker-registry",))
    folder, cache = state_home / "upstream", state_home / "cache"
    folder.mkdir()
    with stand_ins(load(bundle), folder) as servers:
        path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if not Path(each, "go").exists())
        environment = {**servers.environment, **WITHOUT_GO, "PATH": path, "XDG_CACHE_HOME": str(cache)}
        described = replace(isolated("e2e-d", state_home, bundle), environment=environment)
        with footprint.destroyed_afterwards(described) as lab:
            started = time.monotonic()
            words = ("bundle", "download", "--yes", "--recipe", str(servers.recipe), "-o", "json")
            events = lab.labctl(*words, seconds=DOWNLOAD_SECONDS).events()
            yield Downloaded(lab, events, time.monotonic() - started, cache / "labctl", servers)


@pytest.fixture(scope="module")
def entry(downloaded: Downloaded) -> dict[str, Any]:
    """What `bundle list` says of the bundle."""
    [entry] = downloaded.lab.labctl("bundle", "list", "-o", "json").document()["bundles"]
    return dict(entry)


def test_no_go_is_started_and_no_module_fetched(downloaded: Downloaded) -> None:
    lines = (downloaded.cache / "log").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if "$ mmdebstrap" in line]
    assert not [line for line in lines if "$ go " in line or "/bin/go " in line]
    assert not list((downloaded.cache / "toolchains").glob("*/bin/go"))


def test_it_is_a_bundle_like_any_other(downloaded: Downloaded, entry: dict[str, Any]) -> None:
    assert (entry["maker"], entry["recipe"], entry["kubernetes"]) == ("download", "stand-ins", "1.37.2")
    assert [event["text"] for event in downloaded.events if event.get("state") == "done"] == [entry["id"]]
    verified = downloaded.lab.labctl("bundle", "verify", "-o", "json").document()["bundles"]
    assert [each["id"] for each in verified] == [entry["id"]]


def test_the_lab_answers_by_name(downloaded: Downloaded, entry: dict[str, Any], record_property: Record) -> None:
    started = time.monotonic()

    result = downloaded.lab.up("--bundle", entry["folder"]).result()

    seconds = time.monotonic() - started
    record_property("seconds", f"bundle download {downloaded.seconds:.1f} s, up to HTTP 200 {seconds:.1f} s")
    assert result["ok"]
    assert downloaded.lab.page("http://my-app.local")[0] == 200
    images = downloaded.lab.objects("pods", "-A")["items"]
    names = {container["image"] for pod in images for container in pod["spec"]["containers"]}
    assert {"registry.k8s.io/etcd:3.7.0-0", "registry.k8s.io/coredns/coredns:v1.14.6"} <= names


def test_a_bundle_that_the_lab_uses_is_not_removed(downloaded: Downloaded, entry: dict[str, Any]) -> None:
    error = json.loads(
        downloaded.lab.labctl("bundle", "remove", entry["id"], "-o", "json", code=2).out.splitlines()[-1]
    )

    assert error["error"]["id"] == "bundle-in-use"


def test_a_second_download_asks_for_nothing(downloaded: Downloaded) -> None:
    downloaded.servers.web.asked.clear()
    words = ("bundle", "download", "--recipe", str(downloaded.servers.recipe), "-o", "json")

    assert not downloaded.lab.labctl(*words).result()["changed"]
    assert downloaded.servers.web.asked == []
