"""The `ingress` step: apply the ingress controller, and remove what another one, or an earlier version, left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from labctl.cluster import apps, state, unready
from labctl.context import Context
from labctl.host.wait import until
from labctl.model.events import Progress
from labctl.plans.applying import METALLB, apply_objects, manifest, pending_with_reason, restart_for
from labctl.plans.plan import Outcome
from labctl.plans.verify import ingress_address, pending_rollout, rollout_seconds
from labctl.render.ingress import CONTROLLERS, IngressController, Owned, ending_first, find_by_images, is_alone
from labctl.trace.rules.switching import lost_rules

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster


def apply_ingress(context: Context, report: Progress) -> Outcome:
    """Apply the ingress controller, and wait until MetalLB has allocated an address to its Service.

    Raises MissingError `image-not-on-node` before anything is applied.
    """
    controller, cluster, limits = context.controller, context.cluster, context.lab.limits
    wanted = manifest(context, "ingress.yaml")
    _require_images(context, wanted)
    if controller.deprecation:
        report(controller.deprecation)
    before = live_controller(cluster, controller)
    losses = lost_rules(cluster, controller) if before not in {None, controller} else []
    for loss in losses:
        report(loss)
    obsolete = _obsolete(controller, wanted)
    removed = _remove(cluster, [each for each in obsolete if each.kind.endswith("WebhookConfiguration")])
    pods = state.pods(cluster, controller.namespace, controller.deployment)
    has_lone_pods = any(is_alone(pod) for pod in pods)
    changed = apply_objects(context, report, map(ending_first, wanted) if has_lone_pods else wanted)
    restart_for(context, report, changed, [pod for pod in pods if not unready.is_ready(pod)])
    address = until(
        pending_with_reason(context, partial(ingress_address, context), METALLB),
        what=f"an address for the Service {controller.namespace}/{controller.service}",
        timeout=limits.ready,
        interval=limits.poll,
        hint="For details, run `labctl exec -- kubectl -n metallb-system get ipaddresspools,pods`.",
    )
    if has_lone_pods:
        _await_rollout(context, report)
        changed += apply_objects(context, report, wanted)
    if any(_exists(cluster, each) for each in obsolete):
        # The other controller's pods serve until they are replaced; keep what they use until then.
        _await_rollout(context, report)
        removed += _remove(cluster, obsolete)
    if removed:
        report(f"removed {', '.join(removed)}")
    return Outcome(bool(changed or removed), "; ".join([f"{controller.name} at {address}", *losses]))


def _await_rollout(context: Context, report: Progress) -> None:
    """Wait until all pods of the controller are new and ready."""
    controller, limits = context.controller, context.lab.limits
    report(f"waiting for the pods of {controller.deployment}")
    until(
        partial(pending_rollout, context, controller.namespace, controller.deployment, is_app=False),
        what=f"the Deployment {controller.namespace}/{controller.deployment}",
        timeout=rollout_seconds(limits, len(context.lab.serving_nodes)),
        interval=limits.poll,
    )


def _require_images(context: Context, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Check that the nodes can run a replacement of the live Deployment: `render` cannot check halted nodes."""
    live = _live_images(context.cluster, context.controller)
    new = {image for each in wanted if each["kind"] == "Deployment" for image in _images(each)} - live
    if live and new:
        from labctl.plans import controller_images  # noqa: PLC0415 - it needs cryptography, which takes 0.1 s

        controller_images.require_on_nodes(context, new)


def live_controller(cluster: Cluster, controller: IngressController) -> IngressController | None:
    """Return the controller whose image the live Deployment has; None if there is none, or an unknown one."""
    return find_by_images(_live_images(cluster, controller))


def _live_images(cluster: Cluster, controller: IngressController) -> set[str]:
    live = cluster.get("apps/v1", "Deployment", controller.deployment, controller.namespace)
    return _images(live) if live else set()


def _images(deployment: Mapping[str, Any]) -> set[str]:
    containers = deployment["spec"].get("template", {}).get("spec", {}).get("containers", [])
    return {each["image"] for each in containers}


def _obsolete(controller: IngressController, manifests: Iterable[Mapping[str, Any]]) -> list[Owned]:
    """Return the objects that controllers own and this one's manifests lack; the webhooks first."""
    applied = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    return [
        each
        for row in CONTROLLERS
        for each in row.owned
        if (each.kind, each.name) not in applied and not (each.by_controller and row == controller)
    ]


def _exists(cluster: Cluster, owned: Owned) -> bool:
    """Return whether the object exists and is labctl's or its controller's own."""
    existing = cluster.get(owned.api_version, owned.kind, owned.name, owned.namespace)
    return existing is not None and (owned.by_controller or apps.is_applied_by_labctl(existing))


def _remove(cluster: Cluster, obsolete: Iterable[Owned]) -> list[str]:
    return [
        f"{each.kind} {each.name}"
        for each in obsolete
        if _exists(cluster, each) and cluster.delete(each.api_version, each.kind, each.name, each.namespace)
    ]
