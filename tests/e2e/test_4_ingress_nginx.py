"""The row of ingress-nginx, applied to a real cluster from upstream's own file; its image is not in the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import upstream

from . import bundles
from .reallab import RealLab

pytestmark = pytest.mark.e2e

IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"
FILE = "ingress-nginx-baremetal.yaml"
SERVICE = ("-n", "ingress-nginx", "service", "ingress-nginx-controller")
DEPLOYMENT = ("-n", "ingress-nginx", "deployment", "ingress-nginx-controller")


@pytest.fixture
def bundle_with_ingress_nginx(bundle: Path, tmp_path: Path) -> Path:
    """The folder of a bundle that carries upstream's manifest as well, and says that it has the image."""
    content = upstream.content(FILE)
    described = bundles.linked(bundle, tmp_path)
    described["files"].append(bundles.entry(f"manifests/{FILE}", content))
    # Another image's archive in the place of its own: no node of this lab starts with it.
    image = {"reference": IMAGE, "archive": "images/nginx.tar", "runs_on": "node", "phase": "addons"}
    described["images"].append(image)
    (tmp_path / "manifests" / FILE).write_bytes(content)
    return bundles.write(tmp_path, described)


def test_ingress_nginx_is_accepted_gets_an_address_and_gives_way_to_traefik(
    lab: RealLab, bundle: Path, bundle_with_ingress_nginx: Path
) -> None:
    chosen = ("--ingress", "ingress-nginx", "--bundle", str(bundle_with_ingress_nginx))
    lab.up("--only", "render", *chosen)
    applied = lab.up("--only", "ingress", *chosen).events()

    assert any("retired" in event["text"] for event in applied if event.get("state") == "progress")
    service = lab.objects(*SERVICE)
    assert service["spec"]["type"] == "LoadBalancer"
    assert [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]] == ["192.168.56.100"]
    assert "--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller" in _container(lab)["args"]
    assert _container(lab)["image"] == IMAGE
    assert lab.objects("validatingwebhookconfigurations", "ingress-nginx-admission")["webhooks"]

    lab.up("--ingress", "traefik", "--bundle", str(bundle))

    assert _container(lab)["image"].startswith("docker.io/library/traefik:")
    assert lab.page("http://my-app.local")[0] == 200
    assert lab.status()["ok"]
    assert not lab.up().result()["changed"]


def _container(lab: RealLab) -> dict[str, str]:
    [container] = lab.objects(*DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
    found: dict[str, str] = container
    return found
