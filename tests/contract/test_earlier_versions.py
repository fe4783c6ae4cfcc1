"""A lab of labctl 0.1.0 can be shown, halted and destroyed.

`made_by_0.1.0` is the folder of such a lab in a shared Docker Engine, without its logs and with placeholders for keys.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OLD_FOLDER = Path(__file__).parent / "made_by_0.1.0"
NODES = ("demo-control-plane", "demo-worker-1")
FOREIGN = "127.0.0.1 localhost\n"
BLOCK = "# BEGIN labctl demo\n192.168.56.100 my-app.local\n# END labctl demo\n"
NETWORK = "vagrant_network_192.168.56.0/24"
DOCKER = """#!/bin/sh
echo "$*" >>{notes}
case "$1 $2" in
  "ps --all") cat {listing} ;;
  "version "*) echo 26.1.5 ;;
  "network ls") printf '%s\\n' bridge {network} vagrant_network_172.31.0.0/24 ;;
  "network inspect") echo '[{{"Name": "{network}", "Containers": {{}}}}]' ;;
esac
"""


@dataclass(frozen=True, slots=True)
class OldLab:
    """The lab's folder in a temporary home, and a fake Docker Engine with its containers."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "state" / "labctl" / "demo"

    @property
    def hosts(self) -> Path:
        return self.home / "hosts"

    def labctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}"
        folders = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("STATE", "CACHE", "CONFIG")}
        return subprocess.run(
            [sys.executable, "-P", "-m", "labctl", "-o", "json", *words],
            env={**os.environ, **folders, "PATH": path, "HOME": str(self.home)},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def docker_calls(self) -> list[str]:
        return (self.home / "notes").read_text().splitlines()


@pytest.fixture
def old_lab(tmp_path: Path) -> OldLab:
    lab = OldLab(tmp_path)
    shutil.copytree(OLD_FOLDER, lab.folder)
    record = json.loads((lab.folder / "lab.json").read_text())
    record["lab"]["hosts_file"] = str(lab.hosts)
    (lab.folder / "lab.json").write_text(json.dumps(record))
    lab.hosts.write_text(FOREIGN + BLOCK)
    rows = (
        (
            (lab.folder / ".vagrant" / "machines" / node / "docker" / "id").read_text(),
            node,
            "Up 1 hour",
            f"bridge,{NETWORK}",
            "",
        )
        for node in NODES
    )
    (tmp_path / "listing").write_text("".join("\t".join(row) + "\n" for row in rows))
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER.format(notes=tmp_path / "notes", listing=tmp_path / "listing", network=NETWORK))
    docker.chmod(0o755)
    return lab


def test_an_old_lab_is_listed(old_lab: OldLab) -> None:
    listed: list[dict[str, Any]] = json.loads(old_lab.labctl("list").stdout)["labs"]

    assert [(each["lab"], each["isolated"], each["urls"]) for each in listed] == [
        ("demo", False, ["http://my-app.local"])
    ]


def test_the_apps_of_an_old_lab_are_listed(old_lab: OldLab) -> None:
    shown = old_lab.labctl("app", "list")

    assert [app["name"] for app in json.loads(shown.stdout)["apps"]] == ["my-app"]


def test_an_old_lab_is_halted(old_lab: OldLab) -> None:
    finished = old_lab.labctl("halt")

    assert finished.returncode == 0, finished.stderr
    assert f"stop -t 10 {' '.join(NODES)}" in old_lab.docker_calls()
    assert old_lab.hosts.read_text() == FOREIGN + BLOCK


def test_an_old_lab_is_destroyed_with_only_its_own_network(old_lab: OldLab) -> None:
    finished = old_lab.labctl("destroy", "--yes")

    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1])["ok"]
    removals = [line for line in old_lab.docker_calls() if " rm " in f" {line}"]
    assert [line.split()[:2] for line in removals] == [["rm", "--force"], ["network", "rm"]]
    assert removals[1] == f"network rm {NETWORK}"
    assert old_lab.hosts.read_text() == FOREIGN
    assert {path.name for path in old_lab.folder.iterdir()} <= {"log", "hosts.before"}


@pytest.mark.parametrize("content", ["", '{"lab": {"na', "[]", "null"])
def test_a_lab_with_a_damaged_record_is_destroyed_by_name(old_lab: OldLab, content: str) -> None:
    # labctl then uses the machine's own hosts file, in which no lab has this name.
    folder = old_lab.folder.rename(old_lab.folder.with_name("contract-damaged"))
    (folder / "lab.json").write_text(content)
    name = ("--name", "contract-damaged")

    refused = json.loads(old_lab.labctl(*name, "halt").stdout.splitlines()[-1])["error"]
    finished = old_lab.labctl(*name, "destroy", "--yes")

    assert refused["id"] == "record-damaged"
    assert finished.returncode == 0, finished.stdout
    assert f"network rm {NETWORK}" in old_lab.docker_calls()
    assert {path.name for path in folder.iterdir()} <= {"log", "hosts.before"}
