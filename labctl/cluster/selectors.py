"""Kubernetes label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

Selector = Mapping[str, Any]
"""A LabelSelector. An empty one matches everything."""


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Return whether the selector matches an object with these labels."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    return wanted.items() <= labels.items() and all(_is_met(each, labels) for each in expressions)


def selected_pods(cluster: Cluster, deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pods that a Deployment selects."""
    selector, namespace = deployment["spec"]["selector"], deployment["metadata"]["namespace"]
    pods = cluster.find("v1", "Pod", namespace, label_selector(selector.get("matchLabels") or {}))
    rest = {"matchExpressions": selector.get("matchExpressions")}
    return [pod for pod in pods if matches(rest, pod["metadata"].get("labels") or {})]


def label_selector(labels: Mapping[str, str]) -> str:
    """Return labels as the value of a request's `labelSelector`."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _is_met(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None
