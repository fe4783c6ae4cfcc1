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
def test_the_controller_is_the_one_asked_for_or_the_first_that_the_bundle_carries(
    name: str, images: list[str], files: list[str], chosen: str
) -> None:
    assert choose(name, images, files).name == chosen


@pytest.mark.parametrize(
    ("name", "images", "files", "told"),
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
def test_a_controller_that_the_bundle_does_not_carry_is_missing_with_what_lacks_and_what_there_is(
    name: str, images: list[str], files: list[str], told: str, golden: Golden
) -> None:
    with pytest.raises(MissingError, match=re.escape(told)) as raised:
        choose(name, ["labctl.local/nginx:1.26.3", *images], files)

    assert raised.value.id == "ingress-not-carried"
    golden(raised.value.hint)


def test_the_retired_controller_says_so() -> None:
    assert "retired" in NGINX.deprecation


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda controller: controller.name)
def test_every_controller_is_found_under_the_same_names(controller: IngressController) -> None:
    found = (controller.namespace, controller.service, controller.ingress_class)

    assert found == ("ingress-nginx", "ingress-nginx-controller", "nginx")
    assert bool(controller.manifest) != bool(controller.template)


def test_the_service_is_a_load_balancers_and_the_controller_publishes_its_address() -> None:
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


def test_an_argument_that_upstream_gives_another_value_is_replaced() -> None:
    upstreams = _deployment()
    _container(upstreams)["args"].append("--post-shutdown-grace-period=10")

    (deployment,) = objects(NGINX, [upstreams], {}, replicas=2, limits=limits(13))

    (grace,) = [each for each in _container(deployment)["args"] if each.startswith("--post-shutdown")]
    assert grace == "--post-shutdown-grace-period=0"
    assert "--shutdown-grace-period=26" in _container(deployment)["args"]


def test_a_pod_that_is_told_to_end_is_unready_within_a_second() -> None:
    (deployment,) = objects(NGINX, [_deployment()], {}, replicas=2)

    assert _container(deployment)["readinessProbe"] == {
        "httpGet": {"path": "/healthz"},
        "initialDelaySeconds": 0,
        "periodSeconds": 1,
        "failureThreshold": 1,
        "successThreshold": 2,
    }


def test_the_webhook_serves_with_a_certificate_that_labctl_made_and_no_job_makes_one() -> None:
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


def test_another_certificate_replaces_the_pods() -> None:
    made = [
        objects(NGINX, [_deployment()], {}, 2, certificate=Certificate(text, "private"))[1]["spec"]["template"]
        for text in ("first", "first", "second")
    ]

    first, again, second = (each["metadata"]["annotations"][CERTIFICATE_DIGEST] for each in made)
    assert first == again != second


def test_the_controller_has_a_pod_on_every_node_and_an_update_starts_each_successor_beside_its_predecessor() -> None:
    (deployment,) = objects(NGINX, [_deployment()], {}, replicas=3)

    spec = deployment["spec"]
    (apart,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert spec["replicas"] == 3
    assert apart == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": NGINX.deployment}},
        "matchLabelKeys": ["pod-template-hash"],
    }
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert not is_alone(spec["template"])


def test_a_pod_that_keeps_other_versions_off_its_node_ends_before_its_successor_starts() -> None:
    (deployment,) = objects(NGINX, [_deployment()], {}, replicas=3)
    lone = copy.deepcopy(deployment["spec"]["template"])
    (apart,) = lone["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    del apart["matchLabelKeys"]

    changed = ending_first(deployment)

    assert is_alone(lone)
    assert changed["spec"].pop("strategy")["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment["spec"].pop("strategy")["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert changed == deployment
    assert ending_first(SERVICE) == SERVICE


def test_upstreams_settings_stay_beside_labctls() -> None:
    settings = {"kind": "ConfigMap", "metadata": {"name": NGINX.deployment}, "data": {"theirs": "1"}}
    empty = {"kind": "ConfigMap", "metadata": {"name": NGINX.deployment}, "data": None}

    with_theirs, without = objects(NGINX, [settings, empty], {}, replicas=2)

    assert without["data"]["proxy-connect-timeout"] == "1"
    assert with_theirs["data"] == {"theirs": "1", **without["data"]}


def test_adapting_twice_changes_no_more() -> None:
    once = objects(NGINX, [SERVICE, _deployment()], {NGINX_IMAGE: ""}, replicas=2)

    assert objects(NGINX, once, {NGINX_IMAGE: ""}, replicas=2) == once


def test_what_was_read_stays_as_it_was() -> None:
    documents = [SERVICE, _deployment()]
    before = copy.deepcopy(documents)

    objects(NGINX, documents, {NGINX_IMAGE: ""}, replicas=2)

    assert documents == before


def test_other_objects_of_the_same_kind_stay_as_upstream_wrote_them() -> None:
    admission = {"kind": "Service", "metadata": {"name": "admission"}, "spec": {"type": "ClusterIP"}}
    namespace = {"kind": "Namespace", "metadata": {"name": "ingress-nginx"}}
    others = [namespace, admission, _deployment("other", "example.com/other:1@sha256:34")]

    assert objects(NGINX, others, {NGINX_IMAGE: ""}, replicas=2) == others


@pytest.mark.parametrize(
    ("images", "image"),
    [({NGINX_IMAGE: ""}, NGINX_IMAGE), ({NGINX_IMAGE: "sha256:12"}, NGINX_IMAGE), ({}, f"{NGINX_IMAGE}@sha256:12")],
    ids=["made here", "downloaded", "not carried"],
)
def test_only_an_image_that_the_bundle_carries_loses_its_digest(images: dict[str, str], image: str) -> None:
    (deployment,) = objects(NGINX, [_deployment()], images, replicas=2)

    assert _container(deployment)["image"] == image


def test_an_image_with_another_digest_than_upstreams_file_names_is_refused() -> None:
    with pytest.raises(MissingError, match=r"sha256:34.*sha256:12") as raised:
        objects(NGINX, [_deployment()], {NGINX_IMAGE: "sha256:34"}, replicas=2)

    assert raised.value.id == "image-digest-differs"
