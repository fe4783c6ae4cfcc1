"""The kubelet's probes on slow nodes, where a slow pod must be neither restarted nor removed from its Services.

The period of readiness probes stays, since a longer one would delay a pod's first requests as well. Only pods of the
control plane, which receive requests whether or not they are ready, are probed less often.
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
"""The settings that are multiplied, with Kubernetes' defaults."""
WEBHOOK_SECONDS, MOST_WEBHOOK_SECONDS = 10, 30
"""The API server's time limit for a webhook: Kubernetes' default, and its maximum."""

_LIVENESS = {"initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 15}
_PATIENT = {"timeoutSeconds": 15}
_SELDOM = {"periodSeconds": 10, "timeoutSeconds": 15}
"""kubeadm probes static pods for readiness every second, over a new connection each; nothing waits for the result."""
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
"""By the target of kubeadm's patch: the container, and kubeadm 1.37's probes, with less frequent readiness probes."""


def patches(slowness: int) -> dict[str, str]:
    """Return kubeadm's patch files for the probes of the control plane and of CoreDNS, by file name."""
    return {f"{name}.yaml": _patch(name, slowness) for name in KUBEADMS} if slowness > 1 else {}


def with_patience(text: str, slowness: int) -> str:
    """Return manifests with more time for probes and webhooks, or the same text for nodes of normal speed."""
    if slowness == 1:
        return text
    objects = documents(text)
    for each in objects:
        for container in _containers(each):
            container.update(_scale({kind: container[kind] for kind in SCALED if kind in container}, slowness))
        for webhook in each.get("webhooks", []):
            wait = webhook.get("timeoutSeconds", WEBHOOK_SECONDS) * slowness
            webhook["timeoutSeconds"] = min(wait, MOST_WEBHOOK_SECONDS)
    return yaml_stream(objects)


def _patch(name: str, slowness: int) -> str:
    container, probes = KUBEADMS[name]
    spec: dict[str, Any] = {"containers": [{"name": container, **_scale(probes, slowness)}]}
    return yaml_stream([{"spec": {"template": {"spec": spec}} if name.endswith("deployment") else spec}])


def _scale(probes: Mapping[str, Mapping[str, Any]], slowness: int) -> dict[str, dict[str, Any]]:
    return {
        kind: {**probe, **{key: probe.get(key, default) * slowness for key, default in SCALED[kind].items()}}
        for kind, probe in probes.items()
    }


def _containers(manifest: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    containers: list[dict[str, Any]] = (
        manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    )
    return containers
