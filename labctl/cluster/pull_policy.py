"""Find images that the kubelet pulls from a registry although the pod's node has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.images.store import full_name
from labctl.model.errors import UsageError

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

ALWAYS = "Always"
"""The default imagePullPolicy for the tag `latest` and for an image without a tag."""


def needlessly_pulled(cluster: Cluster, pod: Mapping[str, Any], reasons: Sequence[str]) -> tuple[str, str]:
    """Return image and node of a container that waits for one of `reasons` although the node has the image.

    Return empty strings if there is no such container.
    """
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
