"""The bill of materials that a release publishes for a bundle."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import travelling
import yaml

from labctl.bundle.format import Bundle, write

CHECKOUT = Path(__file__).parents[3]
BOX = hashlib.sha256(b"box").hexdigest()


def _describe(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["describe", str(bundle.folder)])
    runpy.run_path(str(CHECKOUT / ".ci/describe"), run_name="__main__")
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_bill_of_materials_lists_files_and_boxes_and_has_what_an_attestation_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = travelling.bundle(tmp_path)
    bundle = replace(original, versions={**original.versions, "debian": "trixie"})
    write(bundle)
    without = _describe(bundle, monkeypatch, capsys)
    (bundle.folder / "machine").mkdir()
    box = {"path": "machine/libvirt.box", "sha256": BOX, "size": 3, "source": "a test"}
    (bundle.folder / "machine/machine.yaml").write_text(yaml.safe_dump({"schema": 1, "files": [box]}))

    document = _describe(bundle, monkeypatch, capsys)

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert uuid.UUID(document["serialNumber"]) == uuid.uuid5(uuid.NAMESPACE_URL, bundle.id)
    assert document["serialNumber"].startswith("urn:uuid:")
    assert document["metadata"]["component"]["name"] == bundle.id
    assert {each["bom-ref"] for each in without["components"]} >= {file.path for file in bundle.files}
    added = [each for each in document["components"] if each not in without["components"]]
    assert [(each["bom-ref"], each["hashes"]) for each in added] == [
        (box["path"], [{"alg": "SHA-256", "content": BOX}])
    ]
    assert "build/bundle/bundle.cdx.json" in (CHECKOUT / ".github/workflows/release.yml").read_text()
    assert "bundle.cdx.json" in (CHECKOUT / ".ci/bundle").read_text()
