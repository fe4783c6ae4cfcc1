"""The record of a lab, and the changes that `up` refuses."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fakes import bundle, lab
from golden_files import Golden

from labctl.bundle.format import write as describe
from labctl.config.saved_lab import SavedLab, read, refuse_differences, values, write
from labctl.host import lab_folder
from labctl.model.errors import ExitCode, MissingError, UsageError

APPS = [{"name": "shop", "hostname": "shop.test", "image": "ghcr.io/me/shop:2", "port": 8080, "replicas": 3}]
ODD = lab(name="1e3", network="10.20.0.0/24", pool="10.20.0.200-10.20.0.210", workers=2, apps=APPS, hosts_file="/tmp/h")  # noqa: S108 - never written


@pytest.mark.parametrize(
    "record", [SavedLab(lab(), isolated=False), SavedLab(ODD, isolated=True, bundle=Path("/stick"))]
)
def test_a_written_record_is_read_unchanged(tmp_path: Path, record: SavedLab) -> None:
    assert write(tmp_path, record)
    assert read(tmp_path) == record
    assert not write(tmp_path, record)


def test_a_missing_folder_has_no_record(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") is None


def test_a_record_is_private_and_has_the_keys_of_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, SavedLab(ODD, isolated=True))

    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    written = json.loads(path.read_text())
    assert written["schema"] == 1
    assert (written["lab"]["network"], written["lab"]["pool"]) == ("10.20.0.0/24", "10.20.0.200-10.20.0.210")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"workers": 3},
        {"pool": "192.168.56.200-192.168.56.210"},
        {"ingress": "traefik"},
        {"apps": [{"name": "other"}]},
    ],
)
def test_up_accepts_these_changes(values: dict[str, Any]) -> None:
    refuse_differences(SavedLab(lab(), isolated=False), SavedLab(lab(**values), isolated=False))


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that describes a bundle with this version of Kubernetes."""

    def write_bundle(version: str) -> Path:
        described = bundle(tmp_path / version)
        describe(dataclasses.replace(described, versions={**described.versions, "kubernetes": version}))
        return described.folder

    return write_bundle


SAME = [
    # The saved values, and the requested ones.
    ({}, {"kubernetes": "1.37.2"}),
    ({"kubernetes": "1.37.2"}, {}),
    ({}, {"provider": "docker"}),
    ({"provider": "docker"}, {}),
    ({"provider": "libvirt"}, {}),
    ({"provider": "libvirt"}, {"provider": "libvirt"}),
    ({}, {"ingress": "traefik"}),
    ({"ingress": "traefik"}, {}),
    ({}, {"pool": "192.168.56.100-192.168.56.110"}),
    ({}, {"memory": "2GiB"}),
    ({}, {"hosts_file": "/etc//hosts"}),
]


@pytest.mark.parametrize(("before", "after"), SAME)
def test_auto_and_the_value_chosen_for_it_are_the_same(
    bundle_of: Callable[[str], Path], before: dict[str, Any], after: dict[str, Any]
) -> None:
    saved = SavedLab(lab(**before), isolated=False, bundle=bundle_of("1.37.2"))

    refuse_differences(saved, SavedLab(lab(**after), isolated=False))
    refuse_differences(saved, SavedLab(lab(**after), isolated=False, bundle=saved.bundle))


@pytest.mark.parametrize(
    ("before", "after", "other_bundle", "expected"),
    [
        ({}, {"kubernetes": "1.36.0"}, "", "kubernetes: currently 1.37.2, requested 1.36.0"),
        ({}, {"kubernetes": "1.36.0"}, "1.36.0", "kubernetes: currently 1.37.2, requested 1.36.0"),
        ({}, {}, "1.36.0", "kubernetes: currently 1.37.2, requested 1.36.0"),
        ({"kubernetes": "1.37.2"}, {}, "1.36.0", "kubernetes: currently 1.37.2, requested 1.36.0"),
        ({}, {"provider": "libvirt"}, "", "provider: currently docker, requested libvirt"),
        ({"provider": "libvirt"}, {"provider": "docker"}, "", "provider: currently libvirt, requested docker"),
        ({"provider": "docker"}, {"provider": "virtualbox"}, "", "provider: currently docker, requested virtualbox"),
    ],
)
def test_another_kubernetes_or_provider_is_refused_from_every_source(
    bundle_of: Callable[[str], Path], before: dict[str, Any], after: dict[str, Any], other_bundle: str, expected: str
) -> None:
    other = bundle_of(other_bundle) if other_bundle else None

    with pytest.raises(UsageError) as raised:
        refuse_differences(SavedLab(lab(**before), False, bundle_of("1.37.2")), SavedLab(lab(**after), False, other))

    assert raised.value.id == "lab-differs"
    assert raised.value.message.splitlines()[1:] == [f"  {expected}"]


def test_a_lab_without_a_bundle_or_with_a_missing_one_accepts_any_kubernetes(
    bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    refuse_differences(SavedLab(lab(), isolated=True), SavedLab(lab(kubernetes="1.36.0"), isolated=True))
    without_bundle = SavedLab(lab(), isolated=True, bundle=tmp_path / "gone")
    refuse_differences(without_bundle, SavedLab(lab(), isolated=True, bundle=bundle_of("1.37.2")))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"network": "192.168.60.0/24"}, ["network", "192.168.56.0/24", "192.168.60.0/24"]),
        ({"cpus": 4}, ["cpus", "2", "4"]),
        ({"memory": 4096}, ["memory", "2048", "4096"]),
        ({"hosts_file": "/srv/hosts"}, ["hosts_file", "/etc/hosts", "/srv/hosts"]),
        ({"workers": 0}, ["workers", "1", "0"]),
    ],
)
def test_a_change_that_needs_a_new_lab_is_refused_with_the_difference(
    values: dict[str, Any], expected: list[str]
) -> None:
    with pytest.raises(UsageError) as raised:
        refuse_differences(SavedLab(lab(), isolated=False), SavedLab(lab(**values), isolated=False))

    assert raised.value.id == "lab-differs"
    [difference] = raised.value.message.splitlines()[1:]
    assert [value for value in expected if value not in difference] == []
    assert "labctl --name demo destroy" in raised.value.hint


def test_all_differences_are_reported_at_once(golden: Golden) -> None:
    with pytest.raises(UsageError) as raised:
        refuse_differences(SavedLab(lab(), isolated=True), SavedLab(lab(cpus=4, memory=4096), isolated=False))

    golden(raised.value.message)


WRONG: dict[str, tuple[object, ...]] = {
    "name": ("No", "", "../up", 1, None),
    "workers": (-1, 21, "many", None, 1.5),
    "network": ("56", "192.168.56.0/33", None, []),
    "pool": ("", "192.168.56.1", "a-b", "1.1.1.1-1.1.1.2-1.1.1.3", None),
    "apps": ("a", [1], [{}], [{"hostname": "a"}], None),
    "memory": ("much", None),
    "hosts_file": (None, 1),
}
"""Values that no version of labctl wrote."""


@pytest.mark.parametrize(
    "content",
    [
        *(
            "",
            "{",
            "[]",
            "null",
            '"lab"',
            '{"lab": []}',
            '{"lab": null}',
            '{"schema": null}',
            '{"schema": "x"}',
            "\xff",
        ),
        *(json.dumps({"lab": {"name": "demo", key: value}}) for key, values in WRONG.items() for value in values),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / lab_folder.RECORD).write_text(content, encoding="latin-1")

    with pytest.raises(MissingError, match=r"lab\.json") as caught:
        read(tmp_path)

    assert caught.value.id == "record-damaged"


MADE_BY_2404CC3 = """\
{
  "lab": {
    "name": "class",
    "provider": "auto",
    "network": "10.20.0.0/24",
    "workers": 2,
    "cpus": 2,
    "memory": 2048,
    "pool": "10.20.0.100-10.20.0.110",
    "kubernetes": "auto",
    "ingress": "contour",
    "apps": [
      {
        "name": "kubernetes",
        "hostname": "kubernetes.local",
        "image": "nginx",
        "port": 80,
        "replicas": 2
      }
    ],
    "hosts_file": "/etc/hosts"
  },
  "isolated": true,
  "bundle": "/home/user/.cache/labctl/bundles/kubernetes-1.37.2-amd64-0f9e8d7c"
}
"""


def test_a_record_of_an_earlier_version_is_read_even_with_values_refused_today(tmp_path: Path) -> None:
    (tmp_path / lab_folder.RECORD).write_text(MADE_BY_2404CC3)

    saved = read(tmp_path)

    assert saved is not None
    assert (saved.lab.name, saved.lab.ingress, str(saved.lab.network)) == ("class", "contour", "10.20.0.0/24")
    assert [(app.name, app.hostname, app.port) for app in saved.lab.apps] == [("kubernetes", "kubernetes.local", 80)]
    assert [node.name for node in saved.lab.nodes] == ["class-control-plane", "class-worker-1", "class-worker-2"]
    assert (saved.isolated, saved.bundle is not None) == (True, True)


@pytest.mark.parametrize(
    ("described", "changed"),
    [
        ({"lab": {"provider": "existing"}}, {"provider": "existing"}),
        ({"lab": {"provider": "libvirt"}}, {"provider": "libvirt"}),
        ({"lab": {"network": "8.8.8.0/24"}}, {"network": IPv4Network("8.8.8.0/24")}),
        ({"lab": {"cpus": 0, "memory": 1}}, {"cpus": 0, "memory": 1}),
        ({"lab": {"kubernetes": "v1.36"}}, {"kubernetes": "v1.36"}),
        ({"lab": {"hosts_file": "hosts"}}, {"hosts_file": Path("hosts")}),
        ({"lab": {"apps": [{"name": "a b", "port": 0, "later": 1}]}}, {}),
        ({"lab": {"later": 1}, "schema": 1, "later": 1}, {}),
        ({"lab": {}}, {}),
        ({}, {}),
    ],
)
def test_extra_and_missing_keys_and_values_refused_today_are_accepted(
    tmp_path: Path, described: dict[str, Any], changed: dict[str, Any]
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / lab_folder.RECORD).write_text(json.dumps(described))

    saved = read(folder)

    assert saved is not None
    expected = dataclasses.replace(lab(), **changed)
    assert dataclasses.replace(saved.lab, apps=(), pool=expected.pool) == dataclasses.replace(expected, apps=())
    assert (saved.isolated, saved.bundle) == (False, None)


def test_a_record_of_a_newer_schema_is_refused_with_both_schemas(tmp_path: Path) -> None:
    (tmp_path / lab_folder.RECORD).write_text('{"schema": 2, "lab": "in a form of its own"}')

    with pytest.raises(MissingError, match=r"lab\.json .*2.* 1") as raised:
        read(tmp_path)

    assert (raised.value.id, raised.value.exit_code) == ("record-newer", ExitCode.MISSING)


@pytest.mark.parametrize("key", [*values(lab()), "isolated", "bundle", "schema"])
def test_any_key_can_be_missing(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "demo"
    write(folder, SavedLab(lab(), isolated=False))
    described = json.loads((folder / lab_folder.RECORD).read_text())
    described.pop(key, None)
    described["lab"].pop(key, None)
    (folder / lab_folder.RECORD).write_text(json.dumps(described))

    assert read(folder) == SavedLab(lab(), isolated=False)


def test_a_missing_pool_is_derived_from_the_network_and_isolation_from_engine_data(tmp_path: Path) -> None:
    (tmp_path / "demo" / "engine").mkdir(parents=True)
    (tmp_path / "demo" / lab_folder.RECORD).write_text(
        '{"lab": {"network": "10.20.0.0/24", "apps": [{"name": "shop"}]}}'
    )

    saved = read(tmp_path / "demo")

    assert saved is not None
    assert saved.isolated
    assert str(saved.lab.pool) == "10.20.0.100-10.20.0.110"
    assert saved.lab.apps == lab(apps=[{"name": "shop"}]).apps


def test_a_record_without_read_permission_is_reported_with_a_chown_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    write(tmp_path, SavedLab(lab(), isolated=False))
    monkeypatch.setattr("labctl.config.saved_lab.content", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "lab.json").stat().st_uid + 1)

    with pytest.raises(MissingError) as raised:
        read(tmp_path)

    assert raised.value.id == "state-not-usable"
    assert f'sudo chown -R "$USER": {tmp_path / "lab.json"}' in raised.value.hint


@pytest.mark.parametrize("kind", ["nothing", "a file above it"])
def test_without_a_record_there_is_no_saved_lab(tmp_path: Path, kind: str) -> None:
    if kind != "nothing":
        (tmp_path / "demo").write_text("")

    assert read(tmp_path / "demo") is None
