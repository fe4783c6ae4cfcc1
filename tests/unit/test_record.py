"""What a lab was made from, and what it cannot become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import lab

from labctl.errors import MissingError, UsageError
from labctl.record import FILE_NAME, Record, read, refuse_differences, write

APPS = [{"name": "shop", "hostname": "shop.test", "image": "ghcr.io/me/shop:2", "port": 8080, "replicas": 3}]
ODD = lab(name="1e3", network="10.20.0.0/24", pool="10.20.0.200-10.20.0.210", workers=2, apps=APPS, hosts_file="/tmp/h")  # noqa: S108 - never written


@pytest.mark.parametrize("record", [Record(lab(), isolated=False), Record(ODD, isolated=True, bundle=Path("/stick"))])
def test_a_record_is_read_as_it_was_written(tmp_path: Path, record: Record) -> None:
    assert write(tmp_path, record)
    assert read(tmp_path) == record
    assert not write(tmp_path, record)


def test_there_is_no_record_of_a_lab_that_was_never_made(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") is None


def test_a_record_is_for_its_owner_alone_and_in_the_words_of_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, Record(ODD, isolated=True))

    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    written = json.loads(path.read_text())["lab"]
    assert (written["network"], written["pool"]) == ("10.20.0.0/24", "10.20.0.200-10.20.0.210")


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
def test_up_can_bring_these_changes_about(values: dict[str, Any]) -> None:
    refuse_differences(Record(lab(), isolated=False), Record(lab(**values), isolated=False))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"network": "192.168.60.0/24"}, "network: it has 192.168.56.0/24, asked is 192.168.60.0/24"),
        ({"cpus": 4}, "cpus: it has 2, asked is 4"),
        ({"memory": 4096}, "memory: it has 2048, asked is 4096"),
        ({"kubernetes": "1.36.0"}, "kubernetes: it has auto, asked is 1.36.0"),
        ({"hosts_file": "/srv/hosts"}, "hosts_file: it has /etc/hosts, asked is /srv/hosts"),
        ({"workers": 0}, "workers: it has 1, asked is 0"),
    ],
)
def test_a_change_that_needs_another_lab_is_refused_with_what_differs(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match="the lab demo is already up") as raised:
        refuse_differences(Record(lab(), isolated=False), Record(lab(**values), isolated=False))

    assert raised.value.id == "lab-differs"
    assert raised.value.message.splitlines()[1:] == [f"  {told}"]
    assert "labctl --name demo destroy" in raised.value.hint


def test_every_difference_is_told_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        refuse_differences(Record(lab(), isolated=True), Record(lab(cpus=4, memory=4096), isolated=False))

    assert raised.value.message.splitlines()[1:] == [
        "  cpus: it has 2, asked is 4",
        "  memory: it has 2048, asked is 4096",
        "  isolation: it is isolated",
    ]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"lab": {}}', '{"lab": {"name": "No"}, "isolated": false, "bundle": null}']
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)

    with pytest.raises(MissingError, match=r"lab\.json does not describe a lab") as caught:
        read(tmp_path)

    assert caught.value.id == "record-damaged"
