"""Find images that a pod's node has, and that its kubelet asks a registry for all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.images.store import full_name
from labctl.model.errors import UsageError

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

ALWAYS = "Always"
"""What is asked for where a pod's template does not say otherwise and the tag is `latest`, or there is none."""


def pulled_although_there(cluster: Cluster, pod: Mapping[str, Any], reasons: Sequence[str]) -> tuple[str, str]:
    """Return image and node of a container that waits for one of these reasons, and whose image the node has."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    policies = {
        each.get("name"): each.get("imagePullPolicy")
        for each in (*spec.get("containers", []), *spec.get("initContainers", []))
    }
    wanted = [
        each["image"]
        for each in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
        if each.get("state", {}).get("waiting", {}).get("reason") in reasons
        and policies.get(each.get("name")) == ALWAYS
    ]
    node = cluster.get("v1", "Node", spec["nodeName"]) if wanted and spec.get("nodeName") else None
    there = {name for image in (node or {}).get("status", {}).get("images", []) for name in image.get("names") or ()}
    return next(((image, spec["nodeName"]) for image in wanted if _name(image) in there), ("", ""))


def _name(image: str) -> str:
    try:
        return full_name(image)
    except UsageError:
        return image
