"""Logs of a lab, on the terminal and in an export, which has no secrets."""

from __future__ import annotations

import json
import re
import stat
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fakes import FakeProvider

from labctl import doctor
from labctl.commands import endings, logs, status, versions
from labctl.context import Context
from labctl.host.redaction import redact, secrets_of
from labctl.model.errors import MissingError, ProviderError, UsageError
from labctl.providers.protocol import CONSOLE

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture
def lab(rendered: Context, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A running lab with all its keys; no tool and no Engine is called."""
    monkeypatch.setattr(versions, "_first_line", lambda *_arguments: "1.2.3")
    monkeypatch.setattr(doctor, "examine", lambda *_arguments: [])
    provider.nodes |= {node.name for node in rendered.lab.nodes}
    provider.lines = ("{unit} on {node} began",)
    rendered.log.write_text("[1] $ vagrant up\n")
    return rendered


def _secrets(context: Context) -> dict[str, str]:
    """Return every secret of the lab, by the name of its file."""
    folder = context.folder
    names = ("ca.key", "metallb-webhook.key", "ssh", "token", "memberlist")
    user = yaml.safe_load((folder / "kubeconfig").read_text())["users"][0]["user"]
    return {name: (folder / "pki" / name).read_text().strip() for name in names} | {"user": user["client-key-data"]}


def _export(context: Context, folder: Path) -> dict[str, str]:
    logs.export(context, folder, context.lab.nodes)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_export_has_the_logs_of_all_tools_and_nodes_and_labctls_reports(lab: Context, tmp_path: Path) -> None:
    (lab.folder / "dockerd.log").write_text("dockerd\n")
    endings.common_log().write_text("a bug\n")
    (lab.cache).mkdir(parents=True, exist_ok=True)
    (lab.cache / "log").write_text("go build\n")

    files = _export(lab, tmp_path / "out")

    journals = {f"nodes/{node.name}/{unit}.log" for node in lab.lab.nodes for unit in (*logs.UNITS, CONSOLE)}
    own = {"log", "lab.json", "dockerd.log", "labctl.log", "bundle.log"}
    assert set(files) == journals | own | {"versions.json", "doctor.json", "status.json", "export.json"}
    assert files["nodes/demo-worker-1/kubelet.log"] == "kubelet on demo-worker-1 began"
    assert json.loads(files["status.json"])["lab"] == "demo"
    assert json.loads(files["export.json"])["missing"] == []


def test_an_export_is_private_to_its_owner(lab: Context, tmp_path: Path) -> None:
    _export(lab, tmp_path / "out")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_no_secret_of_the_lab_is_in_an_export(lab: Context, provider: FakeProvider, tmp_path: Path) -> None:
    secrets = _secrets(lab)
    forms = {
        form
        for secret in secrets.values()
        for form in (secret, b64encode(secret.encode()).decode(), b64encode(f"{secret}\n".encode()).decode())
    }
    lines = [*forms, *(json.dumps(secret) for secret in secrets.values())]
    lab.log.write_text("\n".join(f"[1] said {line}" for line in lines))
    (lab.folder / "containerd.log").write_text((lab.folder / "kubeconfig").read_text())
    (lab.folder / "dockerd.log").write_text((lab.folder / "manifests" / "metallb.yaml").read_text())
    provider.lines = tuple(line.replace("{", "{{").replace("}", "}}") for line in lines)

    files = _export(lab, tmp_path / "out")

    keys = [line for secret in secrets.values() for line in secret.split() if len(line) > 20]
    assert len(forms) == 3 * len(secrets)
    assert [name for name, text in files.items() if any(secret in text for secret in (*forms, *keys))] == []
    assert "containerd.log" in files


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("kubeadm join --token abcdef.0123456789abcdef --x", "kubeadm join --token [removed] --x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [removed]"),
        ("http_proxy=http://me:secret@proxy:3128", "http_proxy=http://[removed]@proxy:3128"),
        ("http://me:sec@ret@proxy:3128 http://token@proxy", "http://[removed]@proxy:3128 http://[removed]@proxy"),
        ("HTTPS_PROXY=me:secret@proxy:3128", "HTTPS_PROXY=[removed]@proxy:3128"),
        ("--certificate-key " + "a1" * 32, "--certificate-key [removed]"),
        ("a-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----b", None),
        ("token eyJhbGciOi.eyJpc3MiO.c2lnbmF0dXJl", "token [removed]"),
    ],
)
def test_anything_that_looks_like_a_secret_is_redacted(text: str, rest: str | None) -> None:
    redacted_text = redact(text, ())

    assert "[removed]" in redacted_text
    assert "MII" not in redacted_text
    assert rest in {None, redacted_text}


@pytest.mark.parametrize("text", ["192.168.56.100:6443", "kube-system/coredns-7d9c", "sha256:" + "0a" * 32, "v1.37.2"])
def test_text_without_secrets_is_unchanged(text: str, lab: Context) -> None:
    assert redact(text, secrets_of(lab.folder)) == text


def test_an_export_of_a_halted_lab_lists_its_nodes_as_missing(
    lab: Context, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.nodes.clear()

    report = logs.export(lab, tmp_path / "out", lab.lab.nodes)

    assert "log" in report["files"]
    assert {absent["file"] for absent in report["missing"]} == {
        f"nodes/{node.name}/{unit}.log" for node in lab.lab.nodes for unit in logs.UNITS
    }
    assert json.loads((tmp_path / "out" / "export.json").read_text())["missing"] == report["missing"]


def test_nodes_of_an_isolated_lab_without_its_network_are_not_queried(lab: Context, tmp_path: Path) -> None:
    isolated = replace(lab, isolated=True)

    report = logs.export(isolated, tmp_path / "out", lab.lab.nodes)

    assert all("is not running" in absent["reason"] for absent in report["missing"] if "nodes/" in absent["file"])


@pytest.mark.parametrize("failure", [ProviderError("no answer", id="tool-timeout"), KeyError("node")])
def test_a_failed_part_is_listed_as_missing_in_the_export(
    lab: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(_context: Context) -> None:
        raise failure

    monkeypatch.setattr(status, "report_on", fail)

    report = logs.export(lab, tmp_path / "out", lab.lab.nodes)

    (absent,) = report["missing"]
    assert absent["file"] == "status.json"
    assert re.search("no answer|KeyError", absent["reason"])


def test_a_lab_that_was_never_up_is_exported(
    context: Context, tmp_path: Path, lab: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "provider", FakeProvider())
    never_up = Context(context.lab, tmp_path / "nothing", lab.cache)

    report = logs.export(never_up, tmp_path / "out", ())

    assert "versions.json" in report["files"]


def test_an_export_refuses_a_folder_that_is_not_empty(lab: Context, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("mine")

    with pytest.raises(UsageError) as error:
        logs.export(lab, folder, ())
    assert error.value.id == "folder-not-empty"
    with pytest.raises(MissingError) as missing:
        logs.export(lab, folder / "mine", ())
    assert missing.value.id == "export-not-written"


def test_the_log_of_a_lab_and_the_journal_of_a_node_are_returned_as_lines(lab: Context) -> None:
    assert logs.lab_log(lab)["lines"] == ["[1] $ vagrant up"]
    assert logs.node_log(lab, lab.lab.nodes[1])["lines"] == [f"{unit} on demo-worker-1 began" for unit in logs.UNITS]


def test_a_missing_log_and_a_stopped_node_are_named(lab: Context, provider: FakeProvider) -> None:
    provider.nodes.clear()
    lab.log.unlink()

    with pytest.raises(MissingError, match=re.escape(str(lab.log))):
        logs.lab_log(lab)
    with pytest.raises(MissingError, match="demo-worker-1"):
        logs.node_log(lab, lab.lab.nodes[1])
