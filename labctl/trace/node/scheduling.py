"""Find what keeps the pods of a DaemonSet off a node."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.cluster.selectors import matches
from labctl.trace.problem import kubectl

REPELLING = frozenset({"NoSchedule", "NoExecute"})
ALWAYS_TOLERATED = "node.kubernetes.io/"
"""The prefix of the taints that Kubernetes sets itself; the pods of every DaemonSet tolerate them."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why a DaemonSet has no pod on a node, and the command that removes it."""

    reason: str
    command: str


def obstacles(lab: str, daemonset: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Obstacle]:
    """Yield what keeps the pods of a DaemonSet off a node: its nodeSelector, its affinity, the node's taints."""
    namespace, name = daemonset["metadata"]["namespace"], daemonset["metadata"]["name"]
    pod, labels = daemonset["spec"]["template"]["spec"], node["metadata"].get("labels", {})

    def patched(fields: Mapping[str, Any]) -> str:
        content = json.dumps({"spec": {"template": {"spec": fields}}}, separators=(",", ":"))
        return kubectl(lab, "-n", namespace, "patch", "daemonset", name, "--type=merge", "-p", content)

    selector: Mapping[str, str] = pod.get("nodeSelector") or {}
    missing = {key: value for key, value in selector.items() if labels.get(key) != value}
    if missing:
        labels_text = ", ".join(f"{key}={value}" for key, value in missing.items())
        fields = {"nodeSelector": dict.fromkeys(missing)}
        yield Obstacle(f"its nodeSelector requires the label {labels_text}", patched(fields))
    if not _matches_affinity(pod.get("affinity") or {}, node):
        yield Obstacle("its affinity requires other nodes", patched({"affinity": None}))
    for taint in node.get("spec", {}).get("taints") or ():
        if _repels(taint, pod.get("tolerations") or ()):
            shown = f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            command = kubectl(lab, "taint", "node", node["metadata"]["name"], f"{taint['key']}:{taint['effect']}-")
            yield Obstacle(f"the node has the taint {shown}", command)


def _matches_affinity(affinity: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms")
    if terms is None:
        return True
    labels, fields = node["metadata"].get("labels", {}), {"metadata.name": node["metadata"]["name"]}
    return any(
        matches({"matchExpressions": term.get("matchExpressions")}, labels)
        and matches({"matchExpressions": term.get("matchFields")}, fields)
        for term in terms
    )


def _repels(taint: Mapping[str, Any], tolerations: Sequence[Mapping[str, Any]]) -> bool:
    if taint["effect"] not in REPELLING or taint["key"].startswith(ALWAYS_TOLERATED):
        return False
    return not any(_tolerates(each, taint) for each in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))
