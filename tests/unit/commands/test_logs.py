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
from labctl.host.redaction import redacted, secrets_of
from labctl.model.errors import MissingError, ProviderError, UsageError
from labctl.providers.protocol import CONSOLE

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture
def lab(rendered: Context, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A running lab with all its keys; no tool and no Engine is called."""
    monkeypatch.setattr(versions, "_answer", lambda *_arguments: "1.2.3")
    monkeypatch.setattr(doctor, "examine", lambda *_arguments: [])
    provider.nodes |= {node.name for node in rendered.lab.nodes}
    provider.lines = ("{unit} on {node} began",)
    rendered.log.write_text("[1] $ vagrant up\n")
    return rendered


def _secrets(context: Context) -> dict[str, str]:
    """Return every secret of the lab as written, by its place."""
    folder = context.folder
    names = ("ca.key", "metallb-webhook.key", "ssh", "token", "memberlist")
    user = yaml.safe_load((folder / "kubeconfig").read_text())["users"][0]["user"]
    return {name: (folder / "pki" / name).read_text().strip() for name in names} | {"user": user["client-key-data"]}


def _exported(context: Context, folder: Path) -> dict[str, str]:
    logs.export(context, folder, context.lab.nodes)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_export_has_the_logs_of_every_tool_and_node_and_what_labctl_says_of_the_lab(
    lab: Context, tmp_path: Path
) -> None:
    (lab.folder / "dockerd.log").write_text("dockerd\n")
    endings.common_log().write_text("a bug\n")
    (lab.cache).mkdir(parents=True, exist_ok=True)
    (lab.cache / "log").write_text("go build\n")

    files = _exported(lab, tmp_path / "out")

    journals = {f"nodes/{node.name}/{unit}.log" for node in lab.lab.nodes for unit in (*logs.UNITS, CONSOLE)}
    own = {"log", "lab.json", "dockerd.log", "labctl.log", "bundle.log"}
    assert set(files) == journals | own | {"versions.json", "doctor.json", "status.json", "export.json"}
    assert files["nodes/demo-worker-1/kubelet.log"] == "kubelet on demo-worker-1 began"
    assert json.loads(files["status.json"])["lab"] == "demo"
    assert json.loads(files["export.json"])["missing"] == []


def test_an_export_is_for_its_owner_alone(lab: Context, tmp_path: Path) -> None:
    _exported(lab, tmp_path / "out")

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

    files = _exported(lab, tmp_path / "out")

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
def test_what_looks_like_a_secret_is_removed_whoever_it_belongs_to(text: str, rest: str | None) -> None:
    told = redacted(text, ())

    assert "[removed]" in told
    assert "MII" not in told
    assert rest in {None, told}


@pytest.mark.parametrize("text", ["192.168.56.100:6443", "kube-system/coredns-7d9c", "sha256:" + "0a" * 32, "v1.37.2"])
def test_what_is_no_secret_stays(text: str, lab: Context) -> None:
    assert redacted(text, secrets_of(lab.folder)) == text


def test_a_halted_lab_is_exported_and_its_nodes_are_said_to_be_missing(
    lab: Context, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.nodes.clear()

    report = logs.export(lab, tmp_path / "out", lab.lab.nodes)

    assert "log" in report["files"]
    assert {absent["file"] for absent in report["missing"]} == {
        f"nodes/{node.name}/{unit}.log" for node in lab.lab.nodes for unit in logs.UNITS
    }
    assert json.loads((tmp_path / "out" / "export.json").read_text())["missing"] == report["missing"]


def test_nodes_of_an_isolated_lab_without_its_network_are_asked_nothing(lab: Context, tmp_path: Path) -> None:
    cut_off = replace(lab, isolated=True)

    report = logs.export(cut_off, tmp_path / "out", lab.lab.nodes)

    assert all("is not running" in absent["reason"] for absent in report["missing"] if "nodes/" in absent["file"])


@pytest.mark.parametrize("failure", [ProviderError("no answer", id="tool-timeout"), KeyError("node")])
def test_what_cannot_be_had_is_said_in_the_export(
    lab: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(_context: Context) -> None:
        raise failure

    monkeypatch.setattr(status, "report_on", fail)

    report = logs.export(lab, tmp_path / "out", lab.lab.nodes)

    (absent,) = report["missing"]
    assert absent["file"] == "status.json"
    assert re.search("no answer|KeyError", absent["reason"])


def test_a_lab_that_never_came_up_is_exported(context: Context, tmp_path: Path, lab: Context) -> None:
    never = Context(context.lab, tmp_path / "nothing", lab.cache)

    report = logs.export(never, tmp_path / "out", ())

    assert "versions.json" in report["files"]


def test_an_export_goes_into_a_folder_of_its_own(lab: Context, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_text("mine")

    with pytest.raises(UsageError) as error:
        logs.export(lab, folder, ())
    assert error.value.id == "folder-not-empty"
    with pytest.raises(MissingError) as missing:
        logs.export(lab, folder / "mine", ())
    assert missing.value.id == "export-not-written"


def test_the_log_of_a_lab_and_the_journal_of_a_node_are_lines(lab: Context) -> None:
    assert logs.of_lab(lab)["lines"] == ["[1] $ vagrant up"]
    assert logs.of_node(lab, lab.lab.nodes[1])["lines"] == [f"{unit} on demo-worker-1 began" for unit in logs.UNITS]


def test_a_log_that_is_not_there_and_a_node_that_does_not_run_are_named(lab: Context, provider: FakeProvider) -> None:
    provider.nodes.clear()
    lab.log.unlink()

    with pytest.raises(MissingError, match=re.escape(str(lab.log))):
        logs.of_lab(lab)
    with pytest.raises(MissingError, match="demo-worker-1"):
        logs.of_node(lab, lab.lab.nodes[1])
