"""`labctl app`: one command adds an app to labctl.yaml and to the lab and traces it, and another removes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .bundles import copy_renamed
from .reallab import UP_SECONDS, RealLab

pytestmark = pytest.mark.e2e

URL = "http://shop.test"
MINE = "docker.io/library/mine:latest"
READY_SECONDS = 60
ADD = ("app", "add", "shop", "--image", "nginx", "--host", "shop.test")
REMOVE = ("app", "remove", "shop")
BEFORE = """\
# The lab of the tests.
workers:  1   # beside the control plane

apps:
  # what everybody looks at first
  - name: my-app
    hostname: my-app.local   # as ever

# What is not said here is the default.
"""
SHOP = """\
  - name: shop
    image: nginx
    hostname: shop.test
"""
AFTER = BEFORE.replace("# as ever\n", f"# as ever\n{SHOP}")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "labctl.yaml"
    path.write_text(BEFORE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def added(lab: RealLab, file: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of `app add`; afterwards, restore the lab's apps."""
    try:
        yield _labctl(lab, file, *ADD)
    finally:
        if file.read_text(encoding="utf-8") != BEFORE:
            _labctl(lab, file, *REMOVE)


def test_one_command_adds_an_app_and_traces_a_request_to_its_pod(
    lab: RealLab, file: Path, added: list[dict[str, Any]]
) -> None:
    done = {event["step"]: event["text"] for event in added if event.get("state") == "done"}
    hops = [event["text"] for event in added if (event.get("step"), event.get("state")) == ("trace", "progress")]

    assert list(done) == ["config", "render", "apps", "hosts", "verify", "trace"]
    assert "shop-" in done["trace"]
    assert [hop.partition(":")[0] for hop in hops] == ["name", "address", "node", "rule", "pod", "response"]
    assert (added[-1]["ok"], added[-1]["urls"]) == (True, ["http://my-app.local", URL])
    assert file.read_text(encoding="utf-8") == AFTER
    assert [lab.page(url)[0] for url in added[-1]["urls"]] == [200, 200]


@pytest.mark.usefixtures("added")
def test_the_app_is_known_to_every_command(lab: RealLab, file: Path) -> None:
    hosts = lab.labctl("hosts", "show").out.splitlines()
    listed = lab.labctl("--config", str(file), "app", "list", "-o", "json").document()["apps"]

    assert hosts == ["192.168.56.100 my-app.local", "192.168.56.100 shop.test"]
    assert [app["url"] for app in listed] == ["http://my-app.local", URL]
    assert lab.labctl("trace", "shop.test", "-o", "json").document()["ok"]
    assert [app["http"] for app in lab.status()["apps"]] == [200, 200]


@pytest.mark.usefixtures("added")
def test_the_same_command_again_changes_nothing(lab: RealLab, file: Path) -> None:
    result = _labctl(lab, file, *ADD)[-1]

    assert (result["ok"], result["changed"]) == (True, False)
    assert file.read_text(encoding="utf-8") == AFTER


@pytest.mark.usefixtures("added")
def test_other_values_are_refused_and_nothing_changes(lab: RealLab, file: Path) -> None:
    refused = lab.labctl("--config", str(file), "-o", "json", *ADD, "--port", "81", code=2).document()

    assert refused["error"]["id"] == "app-exists"
    assert file.read_text(encoding="utf-8") == AFTER
    assert lab.page(URL)[0] == 200


@pytest.mark.usefixtures("added")
def test_the_app_is_removed_everywhere(lab: RealLab, file: Path) -> None:
    result = _labctl(lab, file, *REMOVE)[-1]

    assert (result["ok"], result["urls"]) == (True, ["http://my-app.local"])
    assert file.read_text(encoding="utf-8") == BEFORE
    assert [lab.page(url)[0] for url in ("http://my-app.local", URL)] == [200, 0]
    assert lab.labctl("hosts", "show").out.splitlines() == ["192.168.56.100 my-app.local"]
    items = lab.objects("deployments,services,ingresses", "-l", "app.kubernetes.io/managed-by=labctl")["items"]
    assert {item["metadata"]["name"] for item in items} == {"my-app"}
    assert lab.status()["ok"]


def test_an_app_that_cannot_become_ready_fails_the_run_soon_with_the_reason(lab: RealLab, file: Path) -> None:
    add = ("--config", str(file), "-o", "json", "app", "add", "gone", "--image", "labctl.local/pause:1.0")
    try:
        result = lab.labctl(*add, code=6, seconds=UP_SECONDS).events()[-1]
        problems = {problem["id"]: problem["text"] for problem in lab.status(code=8)["problems"]}
    finally:
        _labctl(lab, file, "app", "remove", "gone")

    assert result["error"]["id"] == "probe-fails"
    assert "connection refused" in result["error"]["message"]
    assert result["seconds"] < READY_SECONDS
    assert "connection refused" in problems["probe-fails"]


def test_an_image_of_the_user_is_loaded_and_used_by_an_app(
    lab: RealLab, file: Path, bundle: Path, tmp_path: Path
) -> None:
    add = ("app", "add", "mine", "--image", "mine")
    refused = lab.labctl("--config", str(file), "-o", "json", *add, code=3).document()
    assert refused["error"]["id"] == "image-not-loaded"
    assert file.read_text(encoding="utf-8") == BEFORE

    archive = str(copy_renamed(bundle / "images" / "nginx.tar", tmp_path / "mine.tar", MINE))
    first, again = (_labctl(lab, file, "image", "load", archive)[-1]["changed"] for _ in range(2))
    try:
        added = _labctl(lab, file, *add)[-1]
        page = lab.page("http://mine.local")[0]
        used = lab.labctl("--config", str(file), "-o", "json", "image", "remove", "mine", code=2).document()
    finally:
        _labctl(lab, file, "app", "remove", "mine")
    worker = (f"{lab.name}-worker-1", "ctr", "--namespace=k8s.io", "images")
    lab.docker("exec", *worker, "remove", "--sync", MINE)
    lost, got = _nodes(lab), lab.up("--config", str(file), "--only", "cluster").result()["changed"]

    assert (first, again, added["ok"], page, used["error"]["id"]) == (True, False, True, 200, "image-used-by-app")
    assert (lost, got, _nodes(lab)) == ([f"{lab.name}-control-plane"], True, _all_nodes(lab))

    _labctl(lab, file, "image", "remove", MINE)
    assert _nodes(lab) == []
    assert MINE not in lab.docker("exec", *worker, "list")


def _nodes(lab: RealLab) -> list[str]:
    """Return the nodes that have the loaded image."""
    images = lab.labctl("image", "list", "-o", "json").document()["images"]
    return [node for image in images if image["source"] == "loaded" for node in image["nodes"]]


def _all_nodes(lab: RealLab) -> list[str]:
    return [node["name"] for node in lab.status()["nodes"]]


def _labctl(lab: RealLab, file: Path, *words: str) -> list[dict[str, Any]]:
    return lab.labctl("--config", str(file), "-o", "json", *words, seconds=UP_SECONDS).events()
