"""The rendered files of every template and provider, compared with the folders beside this file; see golden_files.py."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import upstream
from fakes import IMAGES, MACHINE, VERSIONS, bundle, lab
from golden_files import Golden

from labctl.bundle import Bundle
from labctl.bundle.format import Image
from labctl.context import Context
from labctl.host import lab_folder
from labctl.model.lab import Lab, Phase
from labctl.model.limits import limits
from labctl.plans import lab_files as labfiles
from labctl.render import ingress, manifests
from labctl.render.node_files import Box, Credentials, Libvirt, Machine, Supplies, lab_files
from labctl.render.yaml_stream import documents, yaml_stream
from labctl.trace.causes import CAUSES

BUNDLE = Bundle(
    Path("/cache/bundle"),
    "kubernetes-1.37.2-amd64",
    "build",
    "amd64",
    VERSIONS,
    IMAGES,
    "labctl.local/nginx:1.26.3",
    (),
)
SUPPLIES = Supplies(
    folder=BUNDLE.folder,
    id=BUNDLE.id,
    versions=VERSIONS,
    pause_image="labctl.local/pause:1.0",
    node_image="labctl.local/node:0123456789ab",
    box=Box("labctl/kubernetes-1.37.2-amd64", "1.37.2", BUNDLE.folder / "machine/metadata.json"),
    archives={node.role: BUNDLE.archives(node.role) for node in lab().nodes},
)
CREDENTIALS = Credentials(
    ca_certificate="the CA's certificate\n",
    ca_key="the CA's key\n",
    token="abcdef.0123456789abcdef",  # noqa: S106 - an example
    ssh_public_key="ssh-ed25519 AAAA labctl\n",
)
EMULATED = Libvirt(code_cache=2048)
OLD_MACHINE = replace(MACHINE, cgroup_version=1, proxy_mode="iptables", full_privileges=False, kvm=False)

ANOTHER_LIBVIRT = Libvirt("labs", Path("/srv/labs"))
MACHINE_FILES = ("*/hostname", "*/hosts", "*/lab.network", "*/lab-id")
SLOW = replace(lab(provider="libvirt"), slowness=13)

Case = tuple[Lab, str, Machine, tuple[str, ...]]
CASES: dict[str, Case] = {
    "docker": (lab(), "docker", MACHINE, ("*",)),
    "docker-explicit-capabilities": (lab(), "docker", OLD_MACHINE, ("Vagrantfile",)),
    "docker-three-workers": (lab(workers=3, network="10.20.0.0/24", cpus=1, memory=1024), "docker", MACHINE, ("Vag*",)),
    "libvirt": (lab(), "libvirt", MACHINE, ("Vagrantfile", *MACHINE_FILES)),
    "libvirt-of-another": (lab(workers=0), "libvirt", replace(MACHINE, libvirt=ANOTHER_LIBVIRT), ("Vagrantfile",)),
    "libvirt-without-kvm": (lab(), "libvirt", replace(OLD_MACHINE, libvirt=EMULATED), ("Vagrantfile",)),
    "libvirt-slow": (SLOW, "libvirt", MACHINE, ("nodes/*.yaml", "*/bootstrap.sh")),
    "virtualbox": (lab(), "virtualbox", MACHINE, ("Vagrantfile",)),
    "cgroup-v1": (lab(), "docker", OLD_MACHINE, ("*/kubeadm.yaml", "*/containerd.toml")),
    "no-worker": (lab(workers=0), "docker", MACHINE, ("Vagrantfile", "*/kubeadm.yaml")),
    "no-nameserver": (lab(), "docker", replace(MACHINE, nameservers=()), ("*-plane/resolv.conf",)),
}
"""The labs to render, and patterns of the files to compare: those that differ notably from the first case's."""

LIKE_UPSTREAM = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: ingress-nginx-controller
  namespace: ingress-nginx
data: null
---
apiVersion: v1
kind: Service
metadata:
  name: ingress-nginx-controller
  namespace: ingress-nginx
spec:
  type: NodePort
  ports:
    - {name: http, port: 80, targetPort: http}
---
apiVersion: v1
kind: Service
metadata:
  name: ingress-nginx-controller-admission
  namespace: ingress-nginx
spec:
  type: ClusterIP
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ingress-nginx-controller
  namespace: ingress-nginx
spec:
  selector:
    matchLabels: {app.kubernetes.io/component: controller}
  template:
    spec:
      containers:
        - name: controller
          image: registry.k8s.io/ingress-nginx/controller:v1.15.1@sha256:1234
          args: [/nginx-ingress-controller, --ingress-class=nginx]
          readinessProbe:
            failureThreshold: 3
            httpGet: {path: /healthz, port: 10254}
            initialDelaySeconds: 10
            periodSeconds: 10
---
apiVersion: batch/v1
kind: Job
metadata:
  name: ingress-nginx-admission-create
  namespace: ingress-nginx
spec:
  template:
    spec:
      containers:
        - name: create
          image: registry.k8s.io/ingress-nginx/kube-webhook-certgen:v1.6.6@sha256:5678
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: ingress-nginx-admission
webhooks:
  - name: validate.nginx.ingress.kubernetes.io
    clientConfig:
      service: {name: ingress-nginx-controller-admission, namespace: ingress-nginx}
"""
LIKE_METALLB = """\
apiVersion: v1
kind: Secret
metadata:
  name: metallb-webhook-cert
  namespace: metallb-system
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: controller
  namespace: metallb-system
spec:
  template:
    spec:
      containers:
        - name: controller
          readinessProbe:
            failureThreshold: 3
            httpGet: {path: /metrics, port: monitoring}
            initialDelaySeconds: 10
            periodSeconds: 10
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: speaker
  namespace: metallb-system
spec:
  template:
    spec:
      containers:
        - name: speaker
          readinessProbe: {initialDelaySeconds: 10}
"""
NGINX_IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"
INGRESS_NGINX = next(row for row in ingress.CONTROLLERS if row.name == "ingress-nginx")


@pytest.mark.parametrize("name", CASES)
def test_node_files_match_the_reviewed_ones(name: str, golden: Golden) -> None:
    described, provider, machine, patterns = CASES[name]
    files = lab_files(described, provider, machine, SUPPLIES, CREDENTIALS)

    golden.files(name, {path: text for path, text in files.items() if any(fnmatch(path, each) for each in patterns)})


def test_manifests_match_the_reviewed_ones(golden: Golden) -> None:
    apps = [{"name": "my-app"}, {"name": "shop", "hostname": "shop.test", "image": "ghcr.io/me/shop:2", "replicas": 3}]
    described = lab(pool="192.168.56.200-192.168.56.220", apps=apps)
    context = Context(described, Path("/state"), Path("/cache"))
    vars(context).update(bundle=BUNDLE)

    files = {f"app-{app.name}.yaml": _app(context, app.name) for app in described.apps}
    files["pool.yaml"] = manifests.pool(described)
    files["control-plane.yaml"] = manifests.control_plane(described)
    files["dedicated-control-plane.yaml"] = manifests.control_plane(lab(workers=2))
    files["memberlist.yaml"] = manifests.memberlist(described, "c2VjcmV0", "labctl.local/failure-detector:1.0")
    files["dedicated-memberlist.yaml"] = manifests.memberlist(lab(workers=2), "c2VjcmV0", "labctl.local/detector:1.0")
    assert documents(manifests.memberlist(lab(workers=0), "c2VjcmV0", "x")) == documents(files["memberlist.yaml"])[:1]
    files["traefik.yaml"] = _controller(context)
    golden.files("manifests", files)


def test_the_adapted_ingress_nginx_matches_the_reviewed_one(golden: Golden) -> None:
    certificate = ingress.Certificate("certificate", "key")
    adapted = ingress.objects(
        INGRESS_NGINX, documents(LIKE_UPSTREAM), {NGINX_IMAGE: ""}, replicas=2, certificate=certificate
    )

    golden.files("ingress-nginx", {"adapted.yaml": yaml_stream(adapted)})


def test_the_adapted_metallb_matches_the_reviewed_one(golden: Golden) -> None:
    golden.files("metallb", {"adapted.yaml": manifests.metallb(LIKE_METALLB, "certificate", "key")})


@pytest.mark.parametrize("slowness", [1, 13])
def test_time_limits_match_the_reviewed_ones(slowness: int, golden: Golden) -> None:
    patience = {name: cause.patience * slowness for name, cause in CAUSES.items() if cause.patience < math.inf}
    values = {"limits": asdict(limits(slowness)), "patience of causes": patience}

    golden.files(f"limits-{slowness}", {"limits.yaml": yaml_stream([values])})


def test_manifests_for_slow_nodes_match_the_reviewed_ones(golden: Golden, tmp_path: Path) -> None:
    carried, kinds = bundle(tmp_path), {"Deployment", "DaemonSet", "ValidatingWebhookConfiguration"}
    released = documents(upstream.content("metallb-native-v0.16.1.yaml").decode())
    carried.path("manifests/metallb-native.yaml").write_text(yaml_stream([x for x in released if x["kind"] in kinds]))
    for path in (lab_folder.WEBHOOK_CERTIFICATE, lab_folder.WEBHOOK_KEY, lab_folder.MEMBERLIST):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("secret")
    context = Context(SLOW, tmp_path, tmp_path)
    vars(context).update(
        bundle=replace(carried, images=(*IMAGES, Image("labctl.local/failure-detector:1.0", "x", "node", Phase.ADDONS)))
    )

    golden.files("manifests-slow", labfiles.cluster_files(context, tmp_path))


def test_only_three_objects_of_upstreams_metallb_change() -> None:
    released = upstream.content("metallb-native-v0.16.1.yaml").decode()
    pairs = zip(documents(released), documents(manifests.metallb(released, "certificate", "key")), strict=True)

    changed = [f"{before['kind']} {before['metadata']['name']}" for before, after in pairs if before != after]
    assert sorted(changed) == ["DaemonSet speaker", "Deployment controller", "Secret metallb-webhook-cert"]


def test_adapting_upstreams_baremetal_manifest_gives_its_cloud_manifest() -> None:
    """Upstream's two manifests differ in what labctl changes, except for Jobs and the handling of termination."""
    cloud = [
        each
        for each in documents(upstream.content("ingress-nginx-cloud.yaml").decode())
        if (each["kind"], each["metadata"]["name"]) not in INGRESS_NGINX.left_out
    ]

    adapted = ingress.objects(
        INGRESS_NGINX, documents(upstream.content("ingress-nginx-baremetal.yaml").decode()), {}, replicas=2
    )

    assert [_comparable(document) for document in adapted] == [_comparable(document) for document in cloud]


@pytest.mark.parametrize("name", CASES)
def test_every_node_file_can_be_parsed(name: str) -> None:
    readers: dict[str, Callable[[str], object]] = {".yaml": documents, ".conflist": json.loads, ".toml": tomllib.loads}
    described, provider, machine, _ = CASES[name]

    for path, text in lab_files(described, provider, machine, SUPPLIES, CREDENTIALS).items():
        reader = readers.get(Path(path).suffix)
        assert reader is None or reader(text), path


@pytest.mark.parametrize("name", ["true", "null", "no", "1e3", "0x10", "2026-11-23", "12345678"])
def test_a_name_that_yaml_reads_as_another_type_stays_text_in_manifests(name: str) -> None:
    app_name = name if name[0].isalpha() else f"a{name}"
    described = lab(name=name, apps=[{"name": app_name, "hostname": f"{name}.test", "image": f"{app_name}:{name}"}])
    application = described.apps[0]
    objects = documents(manifests.app(application, application.image, "true") + "---\n" + manifests.pool(described))

    assert {each["metadata"]["name"] for each in objects} == {app_name, name}
    assert objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] == f"{app_name}:{name}"
    assert objects[2]["spec"]["ingressClassName"] == "true"
    assert objects[2]["spec"]["rules"][0]["host"] == f"{name}.test"
    assert objects[4]["spec"]["ipAddressPools"] == [name]


def test_a_token_of_digits_and_a_numeric_cluster_name_stay_text_for_kubeadm() -> None:
    credentials = replace(CREDENTIALS, token="123456.1234567890123456")  # noqa: S106 - an example
    files = lab_files(lab(name="1e3"), "docker", MACHINE, SUPPLIES, credentials)

    init = documents(files["nodes/1e3-control-plane/kubeadm.yaml"])
    join = documents(files["nodes/1e3-worker-1/kubeadm.yaml"])
    assert init[0]["bootstrapTokens"][0]["token"] == credentials.token
    assert init[1]["clusterName"] == "1e3"
    assert join[0]["discovery"]["tlsBootstrapToken"] == credentials.token


def test_the_repr_of_credentials_has_no_key() -> None:
    assert "key" not in repr(CREDENTIALS)


def test_nodes_have_routes_to_the_pods_of_nodes_that_may_join_later() -> None:
    script = lab_files(lab(), "docker", MACHINE, SUPPLIES, CREDENTIALS)["nodes/demo-control-plane/bootstrap.sh"]

    assert "10.244.20.0/24 via 192.168.56.30" in script
    assert "10.244.0.0/24 via" not in script


def _app(context: Context, name: str) -> str:
    application = next(app for app in context.lab.apps if app.name == name)
    image = context.bundle.image(application.image) or application.image
    return manifests.app(application, image, context.controller.ingress_class)


def _controller(context: Context) -> str:
    text = labfiles._controller_text(context)
    return yaml_stream(
        ingress.objects(
            context.controller, documents(text), dict.fromkeys(context.images, ""), len(context.lab.serving_nodes)
        )
    )


def _comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without the order of arguments, and the controller's replicas, affinity and own options."""
    name = document["metadata"]["name"]
    match document["kind"]:
        case "Deployment" if name == INGRESS_NGINX.deployment:
            for key in ("replicas", "strategy"):
                document["spec"].pop(key, None)
            pod = document["spec"]["template"]["spec"]
            pod.pop("affinity", None)
            [container] = pod["containers"]
            del container["readinessProbe"]
            own = {argument.partition("=")[0] for argument in INGRESS_NGINX.arguments}
            container["args"] = [each for each in container["args"] if each.partition("=")[0] not in own]
        case "ConfigMap" if name == INGRESS_NGINX.deployment:
            del document["data"]
    for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        container.get("args", []).sort()
    return document
