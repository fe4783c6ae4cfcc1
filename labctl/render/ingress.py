"""The table of ingress controllers, and the changes that give each of them a load-balancer address."""

from __future__ import annotations

import copy
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from labctl.model.errors import MissingError
from labctl.model.limits import NORMAL, Limits

RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "ingress-nginx-admission"
POD_VERSION = "pod-template-hash"
"""The label with which a Deployment tells the versions of its pods apart."""
CERTIFICATE_DIGEST = "labctl/admission-certificate-sha256"
"""An annotation of the pods of a controller with a webhook."""


@dataclass(frozen=True, slots=True)
class Owned:
    """An object in the cluster that belongs to one controller alone."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = "ingress-nginx"
    by_controller: bool = False
    """Whether the controller, or its own Job, creates it: then it counts as the controller's without labctl's mark."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate and key, as PEM, of a controller's admission webhook."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class IngressController:
    """A row of the table: a controller's names in the cluster, the source of its objects, and its settings."""

    name: str
    repository: str
    """Its image without the tag, which a bundle needs to run the controller."""
    publish_argument: str
    """Makes the controller write its Service's address into every Ingress it serves."""
    manifest: str = ""
    """Upstream's file in the bundle; empty if `template` is set."""
    template: str = ""
    """labctl's own template; empty if `manifest` is set."""
    deprecation: str = ""
    namespace: str = "ingress-nginx"
    service: str = "ingress-nginx-controller"
    deployment: str = "ingress-nginx-controller"
    ingress_class: str = "nginx"
    configmap_data: tuple[tuple[str, str], ...] = ()
    """Data added to upstream's ConfigMap with the Deployment's name; placeholders are the fields of `Limits`."""
    arguments: tuple[str, ...] = ()
    """Further arguments; placeholders are the fields of `Limits`."""
    readiness_probe: tuple[tuple[str, int], ...] = ()
    """The values that replace upstream's timing of the readiness probe."""
    admission: str = ""
    """The name of its webhook configuration and of the Secret with the certificate; empty without a webhook."""
    left_out: frozenset[tuple[str, str]] = frozenset()
    """(kind, name) of objects in upstream's file that are not applied."""
    owned: tuple[Owned, ...] = ()
    """The objects that no other controller has. The webhook comes first: it is fail-closed, so without the controller
    no Ingress could be written."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What a bundle needs to run it: its image, and upstream's file if its objects come from there."""
        return (self.repository, self.manifest) if self.manifest else (self.repository,)


CONTROLLERS = (
    IngressController(
        name="ingress-nginx",
        repository="registry.k8s.io/ingress-nginx/controller",
        publish_argument="--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller",
        manifest="manifests/ingress-nginx-baremetal.yaml",
        # If a pod does not accept a connection, try the next one. By default each of three tries takes five seconds.
        configmap_data=(
            ("proxy-connect-timeout", "{pod_connect}"),
            ("proxy-next-upstream-tries", "10"),
            ("proxy-next-upstream-timeout", "{pod_retry}"),
            # By default nginx waits four minutes for WebSockets and slow downloads before it exits.
            ("worker-shutdown-timeout", "{open_connections}s"),
            # By default a request for a host without a rule is not logged; `trace` searches the log for its requests.
            ("enable-access-log-for-default-backend", "true"),
        ),
        # A terminating pod is unready at once, and serves until MetalLB announces from another node. By default it
        # stops serving first and stays an endpoint for ten more seconds.
        arguments=(
            "--shutdown-grace-period={drain}",
            "--post-shutdown-grace-period=0",
            "--status-update-interval={status_update}",
            "--election-ttl={election}s",
        ),
        # nginx's workers read the apps' pods once a second, and answer 503 until then: ready after a second success.
        readiness_probe=(
            ("initialDelaySeconds", 0),
            ("periodSeconds", 1),
            ("failureThreshold", 1),
            ("successThreshold", 2),
        ),
        admission=_ADMISSION,
        # Upstream's Jobs create the webhook's certificate and are then deleted. Applying them again would run them and
        # change the cluster each time, so labctl creates the certificate itself.
        left_out=frozenset(
            {
                ("Job", f"{_ADMISSION}-create"),
                ("Job", f"{_ADMISSION}-patch"),
                *(
                    (kind, _ADMISSION)
                    for kind in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
                ),
            }
        ),
        owned=(
            Owned("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", _ADMISSION, None),
            Owned("v1", "Service", "ingress-nginx-controller-admission"),
            # labctl applies it; in a lab of an earlier version, upstream's Job created it.
            Owned("v1", "Secret", _ADMISSION, by_controller=True),
            Owned("v1", "ConfigMap", "ingress-nginx-controller"),
            Owned(RBAC, "RoleBinding", "ingress-nginx"),
            Owned(RBAC, "Role", "ingress-nginx"),
            # Upstream's Jobs, and what only they need, were applied by earlier versions of labctl.
            Owned("batch/v1", "Job", f"{_ADMISSION}-create"),
            Owned("batch/v1", "Job", f"{_ADMISSION}-patch"),
            Owned(RBAC, "RoleBinding", _ADMISSION),
            Owned(RBAC, "Role", _ADMISSION),
            Owned(RBAC, "ClusterRoleBinding", _ADMISSION, None),
            Owned(RBAC, "ClusterRole", _ADMISSION, None),
            Owned("v1", "ServiceAccount", _ADMISSION),
            Owned("coordination.k8s.io/v1", "Lease", "ingress-nginx-leader", by_controller=True),
        ),
        deprecation="ingress-nginx is retired: archived on 24 March 2026, its last release is v1.15.1",
    ),
    IngressController(
        name="traefik",
        repository="docker.io/library/traefik",
        publish_argument="--providers.kubernetesingressnginx.publishservice=ingress-nginx/ingress-nginx-controller",
        template="ingress/traefik.yaml.j2",
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
        f"ingress: {name}: {'the bundle has no controller' if name == 'auto' else lacks}",
        id="ingress-not-carried",
        hint=(f"Choose one that it has: {others}. Or u" if others else "U")
        + "se a bundle that has it: `labctl bundle download` makes one with both, and `labctl up --bundle DIR` names another. "
        "`labctl bundle build` takes Traefik from PyPI; no package registry has ingress-nginx's image.",
    )


def images_of(manifests: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the images of the Deployments among these objects."""
    templates = [each["spec"]["template"] for each in manifests if each["kind"] == "Deployment"]
    return {container["image"] for each in templates for container in each["spec"]["containers"]}


def find_by_images(references: Iterable[str]) -> IngressController | None:
    """Return the controller whose image is among these; None if there is none, or an unknown one."""
    repositories = {each.partition("@")[0].rpartition(":")[0] for each in references}
    return next((each for each in CONTROLLERS if each.repository in repositories), None)


def objects(
    controller: IngressController,
    documents: Iterable[Mapping[str, Any]],
    images: Mapping[str, str],
    replicas: int,
    limits: Limits = NORMAL,
    certificate: Certificate | None = None,
) -> list[dict[str, Any]]:
    """Return the controller's objects, with its Service of type LoadBalancer from the first write on.

    Applying first and patching later would flip the type, and with it the address, on every run. The controller has
    `replicas` pods, each on a node of its own. `images` maps the references of the bundle's images to their digests in
    the registry, which are empty for images that did not come from one. A reference to such an image loses its digest,
    because an image that is loaded from an archive has another one. `certificate` is for the controller's webhook, if
    it has one.

    Raises MissingError `image-digest-differs` if the bundle's image is not the one that upstream's file names.
    """
    adapted = [
        _adapt(controller, dict(document), images, replicas, limits, certificate)
        for document in documents
        if (document["kind"], document["metadata"]["name"]) not in controller.left_out
    ]
    if controller.admission and certificate:
        adapted.insert(_place_of_secret(adapted), _secret(controller, certificate))
    return adapted


def _place_of_secret(manifests: list[dict[str, Any]]) -> int:
    """Return the position of the Secret: after its namespace, and before the pods that mount it."""
    return next((at for at, each in enumerate(manifests) if each["kind"] != "Namespace"), len(manifests))


def _secret(controller: IngressController, certificate: Certificate) -> dict[str, Any]:
    """Return the Secret that upstream's Job would create, with the same keys."""
    content = {"ca": certificate.certificate, "cert": certificate.certificate, "key": certificate.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": controller.admission, "namespace": controller.namespace},
        "type": "Opaque",
        "data": {key: _base64(text) for key, text in content.items()},
    }


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _adapt(
    controller: IngressController,
    document: dict[str, Any],
    images: Mapping[str, str],
    replicas: int,
    limits: Limits,
    certificate: Certificate | None,
) -> dict[str, Any]:
    adapted = copy.deepcopy(document)
    match adapted["kind"], adapted["metadata"]["name"]:
        case "Service", controller.service:
            # Local keeps the client's address, and MetalLB announces only from nodes with a ready pod, so that the
            # address moves as soon as Kubernetes, or MetalLB itself, detects a dead node.
            adapted["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        case "ConfigMap", controller.deployment:
            data = {key: value.format_map(asdict(limits)) for key, value in controller.configmap_data}
            adapted["data"] = {**(adapted.get("data") or {}), **data}
        case "Deployment", controller.deployment:
            _spread(adapted["spec"], replicas)
            container = adapted["spec"]["template"]["spec"]["containers"][0]
            _with_arguments(container["args"], controller, limits)
            if controller.readiness_probe:
                container["readinessProbe"].update(controller.readiness_probe)
            if controller.admission and certificate:
                _restart_with(adapted["spec"]["template"], certificate)
        case "ValidatingWebhookConfiguration", controller.admission if certificate:
            for webhook in adapted["webhooks"]:
                webhook["clientConfig"]["caBundle"] = _base64(certificate.certificate)
    for container in adapted.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        container["image"] = _bundled_reference(container["image"], images)
    return adapted


def _bundled_reference(image: str, images: Mapping[str, str]) -> str:
    """Return the reference without its digest if the bundle has the image, else the reference as it is."""
    reference, _, wanted = image.partition("@")
    if reference not in images:
        return image
    digest = images[reference]
    if wanted and digest and wanted != digest:
        raise MissingError(
            f"the bundle's image {reference} has the digest {digest}, but upstream's manifest names {wanted}",
            id="image-digest-differs",
            hint="Use a bundle whose image and manifest match: `labctl bundle verify` checks one, "
            "`labctl up --bundle DIR` uses another.",
        )
    return reference


def _with_arguments(arguments: list[str], controller: IngressController, limits: Limits) -> None:
    """Add the controller's arguments; replace those that upstream sets."""
    for wanted in (controller.publish_argument, *(each.format_map(asdict(limits)) for each in controller.arguments)):
        flag = wanted.partition("=")[0]
        arguments[:] = [each for each in arguments if each.partition("=")[0] != flag]
        arguments.append(wanted)


def _restart_with(template: dict[str, Any], certificate: Certificate) -> None:
    """Replace the pods when the certificate changes: running ones get it only minutes later."""
    digest = sha256(certificate.certificate.encode()).hexdigest()
    metadata = template.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), CERTIFICATE_DIGEST: digest}


def is_alone(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod, of an earlier version of labctl, keeps other versions of the controller off its node."""
    affinity = pod["spec"].get("affinity", {}).get("podAntiAffinity", {})
    return any(
        "matchLabelKeys" not in each for each in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    )


def ending_first(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object; if it is a Deployment, with a rollout that ends each pod before its successor starts."""
    changed = copy.deepcopy(dict(document))
    if changed["kind"] == "Deployment":
        changed["spec"]["strategy"] = _rolling(surge=0, unavailable=1)
    return changed


def _rolling(surge: int, unavailable: int) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _spread(spec: dict[str, Any], replicas: int) -> None:
    """Spread the Deployment's pods over as many nodes; a rollout replaces one pod at a time.

    A pod starts beside the one that it replaces and, once it is ready, Kubernetes removes the older pod of a node with
    two: no node is without a ready pod, so that MetalLB announces the address from the same node all the time.
    """
    apart = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": copy.deepcopy(spec["selector"]),
        "matchLabelKeys": [POD_VERSION],
    }
    spec["replicas"] = replicas
    spec["strategy"] = _rolling(surge=1, unavailable=0)
    spec["template"]["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    }
