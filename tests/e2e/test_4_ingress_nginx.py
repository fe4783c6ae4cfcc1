"""ingress-nginx on a real cluster, from upstream's own manifest, with a stand-in for its image."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import ingress_nginx
from .reallab import RealLab, eventually
from .serving import HOSTNAME

pytestmark = pytest.mark.e2e
RecordProperty = Callable[[str, object], None]

SYSTEM = ("-n", "ingress-nginx")
SERVICE = (*SYSTEM, "service", "ingress-nginx-controller")
DEPLOYMENT = (*SYSTEM, "deployment", "ingress-nginx-controller")
CHECKED_KINDS = "role,rolebinding,serviceaccount,service,configmap,secret,job,lease"
ADMISSION = "ingress-nginx-admission"
URL = f"http://{HOSTNAME}"
ADDRESS = "192.168.56.100"
MAX_OUTAGE = 5.0
"""The longest outage in seconds that a controller's clean shutdown may cause: below one on an idle machine, and 11 if
its node announces the address until it is gone."""
UNFINISHED = f"""
exec 3<>/dev/tcp/{ADDRESS}/80 &&
printf 'POST / HTTP/1.1\\r\\nHost: {HOSTNAME}\\r\\nContent-Length: 99\\r\\n\\r\\n' >&3 && echo sent"""
"""A request whose body never ends."""
LOAD = """
about: Something happens to the ingress controller under load.
scenes:
  - title: The app answers
    expect: [{{http: $url}}]
  - title: It happens
    load: {{hostname: $hostname, before: 2, after: 15}}
    run: {commands}
    expect: [{{http: $url}}]
"""
FRONT = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front, namespace: default}
spec:
  ingressClassName: nginx
  rules:
    - host: shop.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: my-app, port: {name: http}}}}]}
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ingress_nginx.make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def options(image: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return options of `up` with a bundle that carries ingress-nginx, which `auto` then selects."""
    folder = ingress_nginx.bundle_with(image, bundle, tmp_path_factory.mktemp("bundle"))
    return ("--bundle", str(folder), "--ingress", "auto")


@pytest.fixture(scope="module")
def nginx(lab: RealLab, image: Path, bundle: Path) -> Iterator[RealLab]:
    """Yield the lab with ingress-nginx's image on its nodes; afterwards, switch back to Traefik."""
    ingress_nginx.load(lab, image)
    yield lab
    lab.up("--ingress", "traefik", "--bundle", str(bundle))


def test_an_image_with_another_digest_and_one_that_is_on_no_node_are_refused(
    lab: RealLab, image: Path, bundle: Path, options: tuple[str, ...], tmp_path: Path
) -> None:
    other = ingress_nginx.bundle_with(image, bundle, tmp_path, digest=f"sha256:{'0' * 64}")

    result = lab.up("--bundle", str(other), "--ingress", "ingress-nginx", code=3).result()
    assert result["error"]["id"] == "image-digest-differs"

    result = lab.up(*options, code=3).result()
    assert result["error"]["id"] == "image-not-on-node"
    assert _image(lab).startswith("docker.io/library/traefik:")


def test_a_switch_of_controllers_is_complete_and_repeating_it_changes_nothing(
    nginx: RealLab, options: tuple[str, ...], tmp_path: Path, record_property: RecordProperty
) -> None:
    gap = _gap(nginx, tmp_path, f"labctl up -q {' '.join(options)}")

    record_property("away", f"from Traefik to ingress-nginx: {gap:.1f} s")
    assert gap < MAX_OUTAGE
    assert _published(nginx, "my-app") == [ADDRESS]
    assert nginx.page(URL)[0] == 200
    assert _image(nginx) == ingress_nginx.IMAGE
    assert nginx.objects(*SERVICE)["spec"]["type"] == "LoadBalancer"
    assert nginx.objects("validatingwebhookconfigurations", ADMISSION)["webhooks"]
    assert not nginx.objects(*SYSTEM, "jobs")["items"]
    again = nginx.up(*options)
    assert any("retired" in event["text"] for event in again.events() if event.get("state") == "progress")
    assert not again.result()["changed"]
    assert nginx.status()["ok"]
    assert nginx.status()["ingress"]["controller"] == "ingress-nginx"
    assert nginx.labctl("trace", "-o", "json").document()["ok"]


def test_a_node_created_from_another_bundle_boots_again(nginx: RealLab, options: tuple[str, ...]) -> None:
    nginx.up(*options)

    nginx.labctl("ssh", "worker-1", "--", "sudo", "systemctl", "restart", "labctl-node")


def test_a_missing_secret_is_reported_and_pods_start_once_it_is_restored(
    nginx: RealLab, options: tuple[str, ...]
) -> None:
    nginx.kubectl(*SYSTEM, "delete", "secret", ADMISSION)
    assert "controller-cannot-restart" in {problem["id"] for problem in nginx.status()["problems"]}
    nginx.kubectl(*SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=controller")

    def problems() -> list[str]:
        report = nginx.status(code=8)
        return [each["text"] for each in report["problems"] if f"Secret ingress-nginx/{ADMISSION}" in each["text"]]

    assert eventually(problems, bool, 30)
    [broken] = [
        hop for hop in nginx.labctl("trace", "-o", "json", code=8).document()["hops"] if hop["state"] == "broken"
    ]
    assert broken["cause"] == "controller-not-ready"

    result = nginx.up(*options).result()

    assert result["changed"]
    assert result["seconds"] < 60
    assert nginx.page(URL)[0] == 200


def test_an_app_whose_hostname_is_in_use_leaves_nothing_behind(nginx: RealLab, tmp_path: Path) -> None:
    front, file = tmp_path / "front.yaml", nginx.state_home / "labctl.yaml"
    front.write_text(FRONT)
    nginx.kubectl("apply", "-f", str(front))
    try:
        words = ("-o", "json", "app", "add", "shop", "--image", "nginx", "--host", "shop.test")
        error = eventually(
            lambda: nginx.labctl(*words, code=5).result()["error"], lambda error: error["id"] == "ingress-refused", 10
        )
    finally:
        nginx.kubectl("delete", "-f", str(front))

    assert "default/front" in error["message"]
    assert "delete ingress front" in error["hint"]
    assert not file.exists()
    assert not nginx.objects("deployments,services,ingresses", "-l", "app.kubernetes.io/name=shop")["items"]


def test_a_restart_of_the_controller_causes_only_a_short_outage(
    nginx: RealLab, tmp_path: Path, record_property: RecordProperty
) -> None:
    rollout = "kubectl -n ingress-nginx rollout"
    commands = [f"{rollout} {what} deployment ingress-nginx-controller" for what in ("restart", "status")]

    gap = _gap(nginx, tmp_path, *commands)

    record_property("away", f"the pods of ingress-nginx are restarted: {gap:.1f} s")
    assert gap < MAX_OUTAGE


def test_an_open_connection_does_not_delay_the_exit_of_a_controller_pod(nginx: RealLab) -> None:
    rollout = (*SYSTEM, "rollout")
    with subprocess.Popen(
        [*nginx.enter_command, "bash", "-c", f"{UNFINISHED} && exec sleep 300"], stdout=subprocess.PIPE
    ) as client:
        assert client.stdout
        assert client.stdout.readline()
        try:
            nginx.kubectl(*rollout, "restart", "deployment", "ingress-nginx-controller")
            nginx.kubectl(*rollout, "status", "--timeout=55s", "deployment", "ingress-nginx-controller")
        finally:
            client.kill()


def test_a_switch_back_removes_everything_of_ingress_nginx(
    nginx: RealLab, bundle: Path, tmp_path: Path, record_property: RecordProperty
) -> None:
    gap = _gap(nginx, tmp_path, f"labctl up -q --ingress traefik --bundle {bundle}")

    record_property("away", f"from ingress-nginx to Traefik: {gap:.1f} s")
    assert gap < MAX_OUTAGE
    assert _image(nginx).startswith("docker.io/library/traefik:")
    left = {f"{each['kind']} {each['metadata']['name']}" for each in nginx.objects(*SYSTEM, CHECKED_KINDS)["items"]}
    assert left == {
        "ServiceAccount default",
        "ServiceAccount ingress-nginx",
        "Service ingress-nginx-controller",
        "ConfigMap kube-root-ca.crt",
    }
    cluster_wide = nginx.objects("clusterroles,clusterrolebindings,validatingwebhookconfigurations")["items"]
    assert not [each for each in cluster_wide if each["metadata"]["name"] == ADMISSION]
    assert _published(nginx, "my-app") == [ADDRESS]
    assert not nginx.up("--ingress", "traefik", "--bundle", str(bundle)).result()["changed"]


def _gap(lab: RealLab, folder: Path, *commands: str) -> float:
    """Run these commands under load; return the longest time without an answer, in seconds."""
    demo = folder / "demo.yaml"
    demo.write_text(LOAD.format(commands=json.dumps(commands)))
    demo_report = lab.labctl("-q", "-o", "json", "demo", "run", str(demo), seconds=180).document()
    gap: float = demo_report["scenes"][-1]["load"]["gap"]
    return gap


def _published(lab: RealLab, ingress: str) -> list[str]:
    status = lab.objects("ingress", ingress)["status"]
    return [entry["ip"] for entry in status.get("loadBalancer", {}).get("ingress", [])]


def _image(lab: RealLab) -> str:
    [container] = lab.objects(*DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
    return str(container["image"])
