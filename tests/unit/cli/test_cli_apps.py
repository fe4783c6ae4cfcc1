"""`labctl app`: its options, and the effects on labctl.yaml, the lab and the output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import ADDRESS, FakeCluster, FakeProvider, lab

from labctl.commands import app_change
from labctl.config import saved_lab
from labctl.context import Context
from labctl.model.errors import BrokenError
from labctl.plans.plan import Outcome

Run = Callable[..., int]
pytestmark = pytest.mark.usefixtures("home", "machine")
FILE = """\
hosts_file: {hosts_file}  # not the machine's
apps:
  - name: my-app

# The end.
"""


@pytest.fixture
def lab_that_is_up(
    keyed: Context, monkeypatch: pytest.MonkeyPatch, provider: FakeProvider, cluster: FakeCluster, home: Path
) -> Path:
    """The labctl.yaml of a running lab with a fake provider, cluster and bundle."""
    for door, fake in {"provider": provider, "cluster": cluster, "bundle": keyed.bundle}.items():
        monkeypatch.setattr(Context, door, fake)
    monkeypatch.setattr(app_change, "_trace", lambda *_arguments: Outcome(changed=False, text="6 hops"))
    saved_lab.write(keyed.folder, saved_lab.SavedLab(keyed.lab, isolated=False, bundle=keyed.bundle.folder))
    provider.nodes |= {node.name for node in keyed.lab.nodes}
    file = home / "labctl.yaml"
    file.write_text(FILE.format(hosts_file=keyed.lab.hosts_file))
    return file


def _deployed(cluster: FakeCluster) -> list[str]:
    return [name for _, kind, namespace, name in cluster.objects if (kind, namespace) == ("Deployment", "default")]


def _events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _changed_by_step(events: list[dict[str, Any]]) -> dict[str, bool]:
    return {event["step"]: event["changed"] for event in events if event.get("state") == "done"}


@pytest.fixture
def file(labctl: Run, lab_that_is_up: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The labctl.yaml of the same lab once its ingress controller has an address."""
    assert labctl("-q", "up", "--from", "render") == 0
    capsys.readouterr()
    return lab_that_is_up


def test_app_add_writes_deploys_resolves_and_traces_an_app(
    labctl: Run, file: Path, context: Context, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text()

    assert labctl("app", "add", "shop", "--image", "nginx", "--host", "shop.test", "--replicas", "2", "-o", "json") == 0

    *events, result = _events(capsys)
    written, changed, looked_at = ["config", "render"], ["apps", "hosts"], ["verify", "trace"]
    assert _changed_by_step(events) == {**dict.fromkeys(written + changed, True), **dict.fromkeys(looked_at, False)}
    assert (result["ok"], result["changed"]) == (True, True)
    assert result["urls"] == ["http://my-app.local", "http://shop.test"]
    item = "  - name: shop\n    image: nginx\n    hostname: shop.test\n    replicas: 2\n"
    assert file.read_text() == before.replace("my-app\n", f"my-app\n{item}")
    assert f"{ADDRESS} shop.test" in context.lab.hosts_file.read_text()
    assert _deployed(cluster) == ["my-app", "shop"]


@pytest.mark.parametrize(
    ("words", "host"),
    [
        (("add", "shop"), "shop.local"),
        (("add", "my-app"), "my-app.local"),
        (("add", "shop", "--replicas", "0"), "my-app.local"),
        (("remove", "api"), "my-app.local"),
    ],
)
def test_the_suggested_request_is_for_the_added_app_if_it_has_pods(
    labctl: Run, file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], host: str
) -> None:
    assert labctl("-q", "app", "add", "api") == 0
    assert "api" in file.read_text()
    capsys.readouterr()

    assert labctl("app", *words) == 0

    assert capsys.readouterr().err.splitlines()[-1].endswith(f"curl http://{host}")


def test_a_second_app_add_changes_nothing(labctl: Run, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labctl("-q", "app", "add", "shop")
    before = file.read_text()
    capsys.readouterr()

    assert labctl("app", "add", "shop", "-o", "json") == 0

    *events, result = _events(capsys)
    assert not any(_changed_by_step(events).values())
    assert (result["ok"], result["changed"]) == (True, False)
    assert file.read_text() == before


def test_app_remove_removes_the_app_everywhere(
    labctl: Run, file: Path, context: Context, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text()
    labctl("-q", "app", "add", "shop", "--port", "8080")
    capsys.readouterr()

    assert labctl("app", "remove", "shop", "-o", "json") == 0

    *events, result = _events(capsys)
    assert list(_changed_by_step(events)) == ["config", "render", "apps", "hosts", "verify"]
    assert result["urls"] == ["http://my-app.local"]
    assert file.read_text() == before
    assert "shop" not in context.lab.hosts_file.read_text()
    assert _deployed(cluster) == ["my-app"]


def test_the_last_app_can_be_removed(
    labctl: Run, file: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("app", "remove", "my-app", "-o", "json") == 0

    *_, result = _events(capsys)
    assert (result["ok"], result["urls"]) == (True, [])
    assert "apps: []\n" in file.read_text()
    assert _deployed(cluster) == []


@pytest.mark.usefixtures("machine", "file")
def test_an_app_that_no_request_reaches_fails_the_command(
    labctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> Outcome:
        raise BrokenError("shop.local, pod: none", id="no-pod-ready", hint="Wait.")

    monkeypatch.setattr(app_change, "_trace", fail)

    assert labctl("app", "add", "shop", "-o", "json") == 8
    *_, result = _events(capsys)
    assert result["error"] == {"id": "no-pod-ready", "message": "shop.local, pod: none", "hint": "Wait.", "details": []}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("add", "shop"), "file: labctl.yaml\napp: shop\nlab: not up; `labctl up` deploys it\n"),
        (("remove", "my-app"), "file: labctl.yaml\napp: my-app\nlab: not up; `labctl up` leaves it out\n"),
    ],
)
def test_without_a_running_lab_only_the_file_is_written(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    assert labctl("app", *arguments) == 0

    assert capsys.readouterr().out == text
    assert (home / "labctl.yaml").exists()


def test_without_a_running_lab_config_is_the_only_step(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / "class.yaml"
    file.write_text("workers: 2  # two\n")

    assert labctl("--config", str(file), "app", "add", "shop", "-o", "json") == 0

    *events, result = _events(capsys)
    assert _changed_by_step(events) == {"config": True}
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, [])
    assert file.read_text() == "workers: 2  # two\napps:\n  - name: my-app\n  - name: shop\n"


@pytest.mark.parametrize(
    ("arguments", "identity"),
    [
        (("add", "my-app", "--port", "81"), "app-exists"),
        (("add", "Shop", "--replicas", "99"), "config-invalid"),
        (("remove", "shop"), "app-unknown"),
        (("add", "shop", "--port", "many"), "usage"),
        (("add",), "usage"),
    ],
)
def test_a_refused_change_changes_nothing(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], identity: str
) -> None:
    assert labctl("app", *arguments, "-o", "json") == 2

    assert json.loads(capsys.readouterr().out)["error"]["id"] == identity
    assert not (home / "labctl.yaml").exists()


def test_apps_are_listed_as_a_table_or_json(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    replicas = lab().apps[0].replicas

    assert labctl("app", "list") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "IMAGE", "HOSTNAME", "PORT", "REPLICAS", "PATH", "URL"]
    assert row.split() == ["my-app", "nginx", "my-app.local", "80", str(replicas), "/", "http://my-app.local"]

    assert labctl("app", "list", "-o", "json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["apps"]
    assert (listed["name"], listed["replicas"], listed["url"]) == ("my-app", replicas, "http://my-app.local")


def test_help_names_the_commands(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("app", "--help") == 0

    out = capsys.readouterr().out
    assert "Add, remove and list the lab's apps." in out
    assert all(f"\n  {command} " in out for command in ("add", "remove", "list"))
