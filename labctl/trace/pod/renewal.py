"""Recreate an app of the lab whose Deployment was changed by others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labctl.cluster.state import unready_nodes
from labctl.model.lab import FIELD_MANAGER
from labctl.trace.problem import kubectl, labctl

if TYPE_CHECKING:
    from labctl.trace.trail import Trail

TEMPLATE = ("f:spec", "f:template", "f:spec")


def recreate(trail: Trail, service: str) -> tuple[str, tuple[str, ...]]:
    """Return the fix and the commands that recreate an app whose pod template others have changed.

    `labctl up` alone keeps what others added to an object. Returns no commands if the template was not changed,
    or if a node is not Ready.
    """
    app = next((app.name for app in trail.lab.apps if app.name == service), None)
    deployment = trail.cluster.get("apps/v1", "Deployment", app, "default") if app else None
    if app is None or deployment is None or not _is_changed(deployment):
        return "", ()
    if unready_nodes(trail.cluster, trail.lab):  # recreated pods would have the same problem
        return "", ()
    lab = trail.lab.name
    return (
        f"The pod template of {app} was changed by others. Recreate the app with these commands.",
        (kubectl(lab, "-n", "default", "delete", "deployment", app), labctl(lab, "up")),
    )


def _is_changed(deployment: Mapping[str, Any]) -> bool:
    managers = deployment["metadata"].get("managedFields") or []
    return any(each.get("manager") != FIELD_MANAGER and _has(each.get("fieldsV1") or {}, TEMPLATE) for each in managers)


def _has(fields: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    for name in path:
        if name not in fields:
            return False
        fields = fields[name]
    return True
