"""The table of controllers, and what makes upstream's objects a load balancer's."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from golden_files import Golden

from labctl.model.errors import MissingError
from labctl.render.ingress import CONTROLLERS, IngressController, choose, objects

NGINX, _TRAEFIK = CONTROLLERS
NGINX_IMAGE = f"{NGINX.repository}:v1.15.1"
TRAEFIK_IMAGE = "docker.io/library/traefik:v3.7.15"
SERVICE = {"kind": "Service", "metadata": {"name": NGINX.service}, "spec": {"type": "NodePort"}}


def _deployment(name: str = NGINX.deployment, image: str = f"{NGINX_IMAGE}@sha256:12") -> dict[str, Any]:
    container = {"name": "controller", "image": image, "args": ["/controller"]}
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
    service, deployment = objects(NGINX, [SERVICE, _deployment()], [], replicas=2)

    assert service["spec"] == {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    assert _container(deployment)["args"] == [
        "/controller",
        "--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller",
    ]


def test_the_controller_has_a_pod_on_every_node_and_an_update_replaces_one_after_the_other() -> None:
    (deployment,) = objects(NGINX, [_deployment()], [], replicas=3)

    spec = deployment["spec"]
    (apart,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert spec["replicas"] == 3
    assert apart == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": NGINX.deployment}},
    }
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_upstreams_settings_stay_beside_labctls() -> None:
    settings = {"kind": "ConfigMap", "metadata": {"name": NGINX.deployment}, "data": {"theirs": "1"}}
    empty = {"kind": "ConfigMap", "metadata": {"name": NGINX.deployment}, "data": None}

    with_theirs, without = objects(NGINX, [settings, empty], [], replicas=2)

    assert without["data"]["proxy-connect-timeout"] == "1"
    assert with_theirs["data"] == {"theirs": "1", **without["data"]}


def test_adapting_twice_changes_no_more() -> None:
    once = objects(NGINX, [SERVICE, _deployment()], [NGINX_IMAGE], replicas=2)

    assert objects(NGINX, once, [NGINX_IMAGE], replicas=2) == once


def test_what_was_read_stays_as_it_was() -> None:
    documents = [SERVICE, _deployment()]
    before = copy.deepcopy(documents)

    objects(NGINX, documents, [NGINX_IMAGE], replicas=2)

    assert documents == before


def test_other_objects_of_the_same_kind_stay_as_upstream_wrote_them() -> None:
    admission = {"kind": "Service", "metadata": {"name": "admission"}, "spec": {"type": "ClusterIP"}}
    namespace = {"kind": "Namespace", "metadata": {"name": "ingress-nginx"}}
    others = [namespace, admission, _deployment("other", "example.com/other:1@sha256:34")]

    assert objects(NGINX, others, [NGINX_IMAGE], replicas=2) == others


@pytest.mark.parametrize(("carried", "image"), [([NGINX_IMAGE], NGINX_IMAGE), ([], f"{NGINX_IMAGE}@sha256:12")])
def test_only_an_image_that_the_bundle_carries_loses_its_digest(carried: list[str], image: str) -> None:
    (deployment,) = objects(NGINX, [_deployment()], carried, replicas=2)

    assert _container(deployment)["image"] == image
