"""The user's own apps in labctl.yaml: added, distinguished by hostname, and removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from .reallab import RealLab

pytestmark = pytest.mark.e2e

MY_APP = {"name": "my-app"}
SHOP = {"name": "shop", "hostname": "shop.test", "replicas": 2}
ABSENT = "labctl.invalid/absent:1"
NOT_PULLABLE = {"name": "absent", "image": ABSENT}


def test_several_apps_respond_at_their_own_hostnames(lab: RealLab, tmp_path: Path) -> None:
    result = lab.up("--config", _config(tmp_path, MY_APP, SHOP)).result()

    assert result["urls"] == ["http://my-app.local", "http://shop.test"]
    assert [lab.page(url)[0] for url in result["urls"]] == [200, 200]
    assert lab.page("http://192.168.56.100")[0] == 404
    assert len(lab.objects("pods", "-l", "app.kubernetes.io/name=shop")["items"]) == 2


def test_an_app_with_zero_replicas_is_no_problem(lab: RealLab, tmp_path: Path) -> None:
    result = lab.up("--config", _config(tmp_path, MY_APP, {**SHOP, "replicas": 0})).result()

    assert (result["ok"], result["urls"]) == (True, ["http://my-app.local"])
    assert lab.objects("deployment", "shop")["status"].get("replicas", 0) == 0
    assert [app["http"] for app in lab.status()["apps"]] == [200, None]
    assert lab.page("http://shop.test")[0] != 200


def test_an_image_that_cannot_be_pulled_is_named(lab: RealLab, tmp_path: Path) -> None:
    *steps, result = lab.up("--config", _config(tmp_path, MY_APP, NOT_PULLABLE), code=6).events()

    assert (steps[-1]["step"], steps[-1]["state"]) == ("verify", "failed")
    assert (result["ok"], result["error"]["id"]) == (False, "image-not-pullable")
    assert ABSENT in result["error"]["message"]
    assert lab.page("http://my-app.local")[0] == 200


def test_apps_that_are_no_longer_in_labctl_yaml_are_removed(lab: RealLab, tmp_path: Path) -> None:
    lab.up("--config", _config(tmp_path, MY_APP))

    assert _names(lab, "deployments,services,ingresses") == {"my-app"}
    assert lab.labctl("hosts", "show").out.split() == ["192.168.56.100", "my-app.local"]
    assert lab.status()["ok"]


def _config(folder: Path, *apps: Mapping[str, object]) -> str:
    path = folder / "labctl.yaml"
    path.write_text(json.dumps({"apps": apps}), encoding="utf-8")
    return str(path)


def _names(lab: RealLab, kinds: str) -> set[str]:
    items = lab.objects(kinds, "-l", "app.kubernetes.io/managed-by=labctl")["items"]
    return {item["metadata"]["name"] for item in items}
