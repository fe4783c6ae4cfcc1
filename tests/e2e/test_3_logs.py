"""The export of a real lab for a bug report has the logs of nodes and tools, and no secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .reallab import RealLab

pytestmark = pytest.mark.e2e

SECRET_KEYS = ("ca.key", "metallb-webhook.key", "ssh", "token", "memberlist")
UNITS = ("labctl-node", "kubelet", "containerd")


@pytest.fixture(scope="module")
def exported(lab: RealLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the text of every file of an export, by its path below the folder."""
    folder = tmp_path_factory.mktemp("logs") / "export"
    report = lab.labctl("logs", "--export", str(folder), "-o", "json").document()
    assert report["missing"] == []
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_export_has_the_logs_of_every_node_and_tool(exported: dict[str, str]) -> None:
    journals = {f"nodes/e2e-{node}/{unit}.log" for node in ("control-plane", "worker-1") for unit in UNITS}

    assert set(exported) >= {"log", "dockerd.log", "containerd.log", "doctor.json", "versions.json", *journals}
    assert "kubeadm" in exported["nodes/e2e-control-plane/labctl-node.log"]
    assert "vagrant up" in exported["log"]
    assert json.loads(exported["status.json"])["ok"]
    assert json.loads(exported["versions.json"])["engine"]


def test_an_export_has_no_secret_of_the_lab(lab: RealLab, exported: dict[str, str]) -> None:
    secrets = [(lab.folder / "pki" / name).read_text().strip() for name in SECRET_KEYS]
    lines = [line for secret in secrets for line in secret.splitlines() if "-----" not in line]
    user = next(line for line in (lab.folder / "kubeconfig").read_text().splitlines() if "client-key-data" in line)

    values = {*secrets, *(line for line in lines if len(line) > 15), user.split()[1]}
    assert [name for name, text in exported.items() if any(value in text for value in values)] == []


def test_the_log_and_a_nodes_journal_are_printed(lab: RealLab, tmp_path: Path) -> None:
    assert "$ " in lab.labctl("logs").out
    assert "kubelet" in lab.labctl("logs", "worker-1").out
    (tmp_path / "mine").touch()
    assert lab.labctl("logs", "--export", str(tmp_path), code=2).err
