"""The table of controllers, and the changes to upstream's objects."""

from __future__ import annotations

import copy
import re
from base64 import b64decode
from typing import Any

import pytest
from golden_files import Golden

from labctl.model.errors import MissingError
from labctl.model.limits import limits
from labctl.render.ingress import (
    CERTIFICATE_DIGEST,
    CONTROLLERS,
    Certificate,
    IngressController,
    choose,
    ending_first,
    is_alone,
    objects,
)

NGINX, _TRAEFIK = CONTROLLERS
NGINX_IMAGE = f"{NGINX.repository}:v1.15.1"
TRAEFIK_IMAGE = "docker.io/library/traefik:v3.7.15"
SERVICE = {"kind": "Service", "metadata": {"name": NGINX.service}, "spec": {"type": "NodePort"}}


def _deployment(name: str = NGINX.deployment, image: str = f"{NGINX_IMAGE}@sha256:12") -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz"}, "initialDelaySeconds": 10, "periodSeconds": 10, "failureThreshold": 3}
    container = {"name": "controller", "image": image, "args": ["/controller"], "readinessProbe": probe}
    return {
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {"containers": [container]}},
        },
    }


def _container(adapted: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = adapted["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize(
    ("name", "images", "files", "chosen"),
    [
        ("auto", [TRAEFIK_IMAGE], [], "traefik"),
        ("auto", [TRAEFIK_IMAGE, NGINX_IMAGE], [NGINX.manifest], "ingress-nginx"),
        ("auto", [TRAEFIK_IMAGE, NGINX_IMAGE], [], "traefik"),
        ("auto", [TRAEFIK_IMAGE], [NGINX.manifest], "traefik"),
        ("traefik", [TRAEFIK_IMAGE, NGINX_IMAGE], [NGINX.manifest], "traefik"),
        ("ingress-nginx", [NGINX_IMAGE], [NGINX.manifest], "ingress-nginx"),
    ],
)
def test_the_controller_is_the_requested_one_or_the_first_in_the_bundle(
    name: str, images: list[str], files: list[str], chosen: str
) -> None:
    assert choose(name, images, files).name == chosen


@pytest.mark.parametrize(
    ("name", "images", "files", "expected"),
    [
        ("auto", [], [NGINX.manifest], "auto"),
        ("auto", [NGINX_IMAGE], [], "auto"),
        ("contour", [TRAEFIK_IMAGE], [], "contour"),
        ("ingress-nginx", [TRAEFIK_IMAGE], [], f"{NGINX.repository} and {NGINX.manifest}"),
        ("ingress-nginx", [TRAEFIK_IMAGE], [NGINX.manifest], NGINX.repository),
        ("ingress-nginx", [NGINX_IMAGE], [], NGINX.manifest),
        ("traefik", [NGINX_IMAGE], [NGINX.manifest], _TRAEFIK.repository),
        ("traefik", ["docker.io/library/traefik-hub:v3.7.15"], [], _TRAEFIK.repository),
    ],
)
def test_a_controller_missing_from_the_bundle_is_an_error_with_the_missing_parts(
    name: str, images: list[str], files: list[str], expected: str, golden: Golden
) -> None:
    with pytest.raises(MissingError, match=re.escape(expected)) as raised:
        choose(name, ["labctl.local/nginx:1.26.3", *images], files)

    assert raised.value.id == "ingress-not-carried"
    golden(raised.value.hint)


def test_ingress_nginx_is_marked_as_retired() -> None:
    assert "retired" in NGINX.deprecation


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda controller: controller.name)
def test_every_controller_uses_the_same_names(controller: IngressController) -> None:
    names = (controller.namespace, controller.service, controller.ingress_class)

    assert names == ("ingress-nginx", "ingress-nginx-controller", "nginx")
    assert bool(controller.manifest) != bool(controller.template)


def test_the_service_is_a_load_balancer_whose_address_the_controller_publishes() -> None:
    service, deployment = objects(NGINX, [SERVICE, _deployment()], {}, replicas=2)

    assert service["spec"] == {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    assert _container(deployment)["args"] == [
        "/controller",
        "--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller",
        "--shutdown-grace-period=2",
        "--post-shutdown-grace-period=0",
        "--status-update-interval=5",
        "--election-ttl=8s",
    ]


def test_an_upstream_argument_with_another_value_is_replaced() -> None:
    upstream_deployment = _deployment()
    _container(upstream_deployment)["args"].append("--post-shutdown-grace-period=10")

    (deployment,) = objects(NGINX, [upstream_deployment], {}, replicas=2, limits=limits(13))

    (grace,) = [each for each in _container(deployment)["args"] if each.startswith("--post-shutdown")]
    assert grace == "--post-shutdown-grace-period=0"
    assert "--shutdown-grace-period=26" in _container(deployment)["args"]


def test_a_terminating_pod_is_unready_within_a_second() -> None:
    (deployment,) = objects(NGINX, [_deployment()], {}, replicas=2)

    assert _container(deployment)["readinessProbe"] == {
        "httpGet": {"path": "/healthz"},
        "initialDelaySeconds": 0,
        "periodSeconds": 1,
        "failureThreshold": 1,
        "successThreshold": 2,
    }


def test_the_webhook_uses_labctls_certificate_and_upstreams_jobs_are_removed() -> None:
    namespace = {"kind": "Namespace", "metadata": {"name": NGINX.namespace}}
    webhook = {
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NGINX.admission},
        "webhooks": [{"name": "validate", "clientConfig": {"service": {"name": "admission"}}}],
    }
    left_out = [{"kind": kind, "metadata": {"name": name}} for kind, name in NGINX.left_out]

    adapted = objects(
        NGINX, [namespace, *left_out, _deployment(), webhook], {}, 2, certificate=Certificate("public", "private")
    )

    assert [each["kind"] for each in adapted] == ["Namespace", "Secret", "Deployment", "ValidatingWebhookConfiguration"]
    assert adapted[1]["metadata"] == {"name": NGINX.admission, "namespace": NGINX.namespace}
    assert {key: b64decode(text) for key, text in adapted[1]["data"].items()} == {
        "ca": b"public",
        "cert": b"public",
        "key": b"private",
    }
    assert adapted[-1]["webhooks"][0]["clientConfig"] == {
        "service": {"name": "admission"},
        "caBundle": adapted[1]["data"]["ca"],
    }
    assert len(left_out) == 7


def test_a_new_certificate_changes_the_pod_template() -> None:
    templates = [
        objects(NGINX, [_deployment()], {}, 2, certificate=Certificate(text, "private"))[1]["spec"]["template"]
        for text in ("first", "first", "second")
    ]

    first, again, second = (each["metadata"]["annotations"][CERTIFICATE_DIGEST] for each in templates)
    assert first == again != second


def test_the_controller_has_one_pod_per_node_and_an_update_starts_each_new_pod_beside_the_old() -> None:
    (deployment,) = objects(NGINX, [_deployment()], {}, replicas=3)

    spec = deployment["spec"]
    (anti_affinity,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert spec["replicas"] == 3
    assert anti_affinity == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": NGINX.deployment}},
        "matchLabelKeys": ["pod-template-hash"],
    }
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert not is_alone(spec["template"])


def test_a_pod_that_keeps_other_versions_off_its_node_ends_before_its_successor_starts() -> None:
    (deployment,) = objects(NGINX, [_deployment()], {}, replicas=3)
    lone = copy.deepcopy(deployment["spec"]["template"])
    (anti_affinity,) = lone["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    del anti_affinity["matchLabelKeys"]

    changed = ending_first(deployment)

    assert is_alone(lone)
    assert changed["spec"].pop("strategy")["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment["spec"].pop("strategy")["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert changed == deployment
    assert ending_first(SERVICE) == SERVICE


def test_upstreams_settings_are_kept_with_labctls() -> None:
    settings = {"kind": "ConfigMap", "metadata": {"name": NGINX.deployment}, "data": {"theirs": "1"}}
    empty = {"kind": "ConfigMap", "metadata": {"name": NGINX.deployment}, "data": None}

    with_upstreams, without_upstreams = objects(NGINX, [settings, empty], {}, replicas=2)

    assert without_upstreams["data"]["proxy-connect-timeout"] == "1"
    assert with_upstreams["data"] == {"theirs": "1", **without_upstreams["data"]}


def test_adapting_is_idempotent() -> None:
    once = objects(NGINX, [SERVICE, _deployment()], {NGINX_IMAGE: ""}, replicas=2)

    assert objects(NGINX, once, {NGINX_IMAGE: ""}, replicas=2) == once


def test_adapting_does_not_modify_its_input() -> None:
    documents = [SERVICE, _deployment()]
    before = copy.deepcopy(documents)

    objects(NGINX, documents, {NGINX_IMAGE: ""}, replicas=2)

    assert documents == before


def test_other_objects_of_the_same_kind_are_unchanged() -> None:
    admission = {"kind": "Service", "metadata": {"name": "admission"}, "spec": {"type": "ClusterIP"}}
    namespace = {"kind": "Namespace", "metadata": {"name": "ingress-nginx"}}
    others = [namespace, admission, _deployment("other", "example.com/other:1@sha256:34")]

    assert objects(NGINX, others, {NGINX_IMAGE: ""}, replicas=2) == others


@pytest.mark.parametrize(
    ("images", "image"),
    [({NGINX_IMAGE: ""}, NGINX_IMAGE), ({NGINX_IMAGE: "sha256:12"}, NGINX_IMAGE), ({}, f"{NGINX_IMAGE}@sha256:12")],
    ids=["made here", "downloaded", "not carried"],
)
def test_only_an_image_of_the_bundle_loses_its_digest(images: dict[str, str], image: str) -> None:
    (deployment,) = objects(NGINX, [_deployment()], images, replicas=2)

    assert _container(deployment)["image"] == image


def test_an_image_with_another_digest_than_upstreams_is_refused() -> None:
    with pytest.raises(MissingError, match=r"sha256:34.*sha256:12") as raised:
        objects(NGINX, [_deployment()], {NGINX_IMAGE: "sha256:34"}, replicas=2)

    assert raised.value.id == "image-digest-differs"
