"""Apply a rendered file to the cluster, restart the pods that need it, and report why something is not ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from labctl.cluster import unready
from labctl.context import Context
from labctl.host import lab_folder
from labctl.host.wait import NOT_READY, Pending, pending_while_unready, throttled
from labctl.model.events import Progress
from labctl.model.lab import App
from labctl.plans.verify import cut_off_from_api_server, pending_rollout
from labctl.render import manifests
from labctl.render.yaml_stream import documents

T = TypeVar("T")

METALLB = ("metallb-system", "controller")
RBAC_KINDS = frozenset({"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
"""Kinds that grant rights. Traefik checks only when it starts whether it can read IngressClasses."""


def manifest(context: Context, name: str) -> list[dict[str, Any]]:
    """Return the objects in a rendered file."""
    return documents((context.folder / lab_folder.MANIFESTS / name).read_text(encoding="utf-8"))


def app_manifest(context: Context, app: App) -> str:
    """Return the objects of an app as YAML text, with the bundle's image of that name if there is one."""
    image = context.image(app.image) or app.image
    return manifests.app(app, image, context.controller.ingress_class)


def apply(context: Context, report: Progress, name: str) -> list[str]:
    """Apply a rendered file; return what changed, each object as "kind name"."""
    return apply_objects(context, report, manifest(context, name))


def apply_objects(context: Context, report: Progress, objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Apply these objects; return what changed, each object as "kind name"."""
    changed = context.cluster.apply(objects)
    if changed:
        report(f"applied {', '.join(changed)}")
    return changed


def restart_for(context: Context, report: Progress, changed: Iterable[str], pods: Iterable[Mapping[str, Any]]) -> None:
    """Restart pods that may have started without rights that were restored just now, or that wait for a volume.

    The kubelet retries a missing Secret after a back-off of up to two minutes. `pods` are those from before the change.
    """
    applied = set(changed)
    reasons = {
        "may have started without these rights": pods if RBAC_KINDS & {name.split()[0] for name in applied} else (),
        "waited for objects that were just applied": [pod for pod in pods if _waits_for(pod, applied)],
    }
    restarted: set[str] = set()
    for reason, chosen in reasons.items():
        names = [(pod["metadata"]["name"], pod["metadata"].get("namespace")) for pod in chosen]
        gone = [
            name
            for name, namespace in names
            if name not in restarted and context.cluster.delete("v1", "Pod", name, namespace)
        ]
        restarted |= set(gone)
        if gone:
            report(f"restarting {', '.join(gone)}, which {reason}")


def _waits_for(pod: Mapping[str, Any], applied: set[str]) -> bool:
    """Return whether a pod that has not started mounts one of the objects that were applied."""
    is_waiting = not unready.is_ready(pod) and not unready.has_started(pod)
    return is_waiting and any(f"{kind} {name}" in applied for kind, name in unready.mounted_objects(pod))


def pending_with_reason(
    context: Context, look: Callable[[], T | Pending], deployment: tuple[str, str]
) -> Callable[[], T | Pending]:
    """Return a check that, while it is pending, also reports why its Deployment is not ready or not reachable."""

    def reason_now() -> Pending | None:
        waiting = pending_rollout(context, *deployment, is_app=False)
        return waiting or pending_while_unready(partial(cut_off_from_api_server, context, *deployment))

    why = throttled(reason_now, context.lab.limits.reason_check)

    def looked() -> T | Pending:
        result = look()
        reason = why() if isinstance(result, Pending) else None
        if not isinstance(result, Pending) or reason is None or reason.id == NOT_READY:
            return result
        return replace(reason, reason=f"{result.reason}; {reason.reason}")

    return looked
