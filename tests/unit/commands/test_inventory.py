"""The small answers: labs, bundles and hosts lines."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from fakes import Watched, bundle, lab

from labctl import __version__, config
from labctl.bundle.format import write
from labctl.commands import inventory
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import lab_folder, paths
from labctl.host.process import Finished
from labctl.model.errors import MissingError, ProviderError, UsageError

pytestmark = pytest.mark.usefixtures("home")


def test_labs_are_those_that_were_made_in_the_order_of_their_names() -> None:
    saved_lab.write(paths.state("two"), saved_lab.SavedLab(lab(name="two", workers=0), isolated=True))
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    paths.state("destroyed").mkdir()

    assert inventory.labs() == [
        {
            "lab": "demo",
            "nodes": 2,
            "network": "192.168.56.0/24",
            "pool": "192.168.56.100-192.168.56.110",
            "isolated": False,
            "urls": ["http://my-app.local"],
            "problem": None,
        },
        {
            "lab": "two",
            "nodes": 1,
            "network": "192.168.56.0/24",
            "pool": "192.168.56.100-192.168.56.110",
            "isolated": True,
            "urls": ["http://my-app.local"],
            "problem": None,
        },
    ]


def test_a_lab_whose_record_is_damaged_is_listed_by_its_name_and_hides_no_other() -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    (paths.state("broken") / "engine").mkdir(parents=True)
    (paths.state("broken") / lab_folder.RECORD).write_text('{"lab": ')

    broken, demo = inventory.labs()

    assert (broken["lab"], broken["nodes"], broken["isolated"], broken["urls"]) == ("broken", None, True, [])
    assert str(paths.state("broken") / lab_folder.RECORD) in str(broken["problem"])
    assert (demo["lab"], demo["problem"]) == ("demo", None)


def test_bundles_are_those_in_the_cache(home: Path) -> None:
    made = bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2")
    write(made)

    (described,) = inventory.bundles()

    assert (described["id"], described["kubernetes"], described["traefik"]) == ("kubernetes-1.37.2", "1.37.2", None)
    assert described["folder"] == str(made.folder)


def test_a_bundle_is_verified_wherever_it_is(tmp_path: Path, watched: Watched) -> None:
    made = bundle(tmp_path / "stick")
    write(made)
    assert [found["id"] for found in inventory.verified(made.folder, watched.report)] == [made.id]

    made.path("base/node.tar").write_bytes(b"x")
    with pytest.raises(MissingError, match=r"base/node\.tar"):
        inventory.verified(made.folder, watched.report)


def test_versions_are_those_of_labctl_the_bundle_and_the_tools(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"vagrant": Finished(0, "Vagrant 2.4.3\n", ()), "docker": Finished(1, "", ("no Engine",))}
    monkeypatch.setattr(inventory, "run", lambda line, **_options: said[line[0]])

    versions = inventory.versions(context)

    assert versions == {
        "labctl": __version__,
        "bundle": context.bundle.id,
        "kubernetes": "1.37.2",
        "metallb": "0.15.2",
        "vagrant": "2.4.3",
        "engine": None,
    }


def test_what_is_not_there_has_no_version(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_arguments: object, **_options: object) -> None:
        raise ProviderError("cannot run vagrant", id="tool-not-started")

    monkeypatch.setattr(inventory, "run", absent)
    versions = inventory.versions(Context(context.lab, context.folder, context.cache / "empty"))

    assert {name for name, version in versions.items() if version is not None} == {"labctl"}


def test_a_hosts_file_without_the_labs_lines_has_none(context: Context) -> None:
    assert inventory.hosts_lines(context) == {"file": str(context.lab.hosts_file), "lines": []}


def test_an_example_is_a_configuration_of_the_default_lab_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "labctl.yaml"

    answer = inventory.write_example(path)

    assert answer["file"] == str(path)
    assert f"$schema={Path(answer['schema']).as_uri()}\n" in path.read_text()
    assert json.loads(Path(answer["schema"]).read_text()) == config.schema()
    assert config.load(path, config.Overrides()) == lab()
    with pytest.raises(UsageError, match=r"labctl\.yaml exists already"):
        inventory.write_example(path)


def test_an_example_that_cannot_be_written_is_named_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"missing/x\.yaml") as raised:
        inventory.write_example(tmp_path / "missing" / "x.yaml")
    assert raised.value.id == "config-unwritable"

    monkeypatch.setattr(config, "example", lambda: "x" * 100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    inventory.write_example(tmp_path / "first.yaml")  # the schema is there from here on
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(UsageError, match="File too large"):
            inventory.write_example(tmp_path / "labctl.yaml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "labctl.yaml").exists()
