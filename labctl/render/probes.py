"""The kubelet's probes on slow nodes: a pod that is only slow is neither restarted nor taken out of its Services.

How often a pod is asked whether it is ready stays, or slow nodes would make it wait for its requests as well; only those
of the control plane, which get their requests whether or not they are ready, are asked seldom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labctl.render.yaml_stream import documents, yaml_stream

SCALED: Mapping[str, Mapping[str, int]] = {
    "livenessProbe": {"initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 1},
    "readinessProbe": {"timeoutSeconds": 1},
    "startupProbe": {"timeoutSeconds": 1},
}
"""What is multiplied, and Kubernetes' own values of it."""
WEBHOOK_SECONDS, MOST_WEBHOOK_SECONDS = 10, 30
"""How long the API server waits for a webhook: Kubernetes' own value, and the highest that it takes."""

_LIVENESS = {"initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 15}
_PATIENT = {"timeoutSeconds": 15}
_SELDOM = {"periodSeconds": 10, "timeoutSeconds": 15}
"""kubeadm asks a static pod every second whether it is ready, each time by a new connection; nothing waits for the answer."""
KUBEADMS: Mapping[str, tuple[str, Mapping[str, Mapping[str, int]]]] = {
    "kube-apiserver": (
        "kube-apiserver",
        {"livenessProbe": _LIVENESS, "readinessProbe": _SELDOM, "startupProbe": _PATIENT},
    ),
    "kube-controller-manager": ("kube-controller-manager", {"livenessProbe": _LIVENESS, "startupProbe": _PATIENT}),
    "kube-scheduler": (
        "kube-scheduler",
        {"livenessProbe": _LIVENESS, "readinessProbe": _SELDOM, "startupProbe": _PATIENT},
    ),
    "etcd": ("etcd", {"livenessProbe": _LIVENESS, "readinessProbe": _SELDOM, "startupProbe": _PATIENT}),
    "corednsdeployment": (
        "coredns",
        {"livenessProbe": {"initialDelaySeconds": 60, "timeoutSeconds": 5}, "readinessProbe": {}},
    ),
}
"""By kubeadm's name of what a patch is for: the container, and the probes that kubeadm 1.37 gives it."""


def patches(slowness: int) -> dict[str, str]:
    """Return kubeadm's patch files for the probes of the control plane and of CoreDNS, by file name."""
    return {f"{name}.yaml": _patch(name, slowness) for name in KUBEADMS} if slowness > 1 else {}


def with_patience(text: str, slowness: int) -> str:
    """Return manifests with more time for probes and webhooks; for nodes of normal speed, the same text."""
    if slowness == 1:
        return text
    objects = documents(text)
    for each in objects:
        for container in _containers(each):
            container.update(_multiplied({kind: container[kind] for kind in SCALED if kind in container}, slowness))
        for webhook in each.get("webhooks", []):
            wait = webhook.get("timeoutSeconds", WEBHOOK_SECONDS) * slowness
            webhook["timeoutSeconds"] = min(wait, MOST_WEBHOOK_SECONDS)
    return yaml_stream(objects)


def _patch(name: str, slowness: int) -> str:
    container, probes = KUBEADMS[name]
    spec: dict[str, Any] = {"containers": [{"name": container, **_multiplied(probes, slowness)}]}
    return yaml_stream([{"spec": {"template": {"spec": spec}} if name.endswith("deployment") else spec}])


def _multiplied(probes: Mapping[str, Mapping[str, Any]], slowness: int) -> dict[str, dict[str, Any]]:
    return {
        kind: {**probe, **{key: probe.get(key, default) * slowness for key, default in SCALED[kind].items()}}
        for kind, probe in probes.items()
    }


def _containers(manifest: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    containers: list[dict[str, Any]] = (
        manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    )
    return containers
