"""Checks of the bundle's contents against the lab's requirements."""

from __future__ import annotations

from labctl.bundle.links import require_inside
from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.host.machine import Machine
from labctl.model.errors import MissingError


def check_bundle(context: Context, _machine: Machine) -> Finding:
    """Check that the bundle has, or will have, the lab's Kubernetes and ingress controller."""
    try:
        context.require_bundle_contents()
    except MissingError as error:
        return broken(error.message, error.hint, error.id)
    if not context.has_bundle:
        return ok("not built yet; it will have what the lab needs")
    return ok(
        f"{context.bundle.id} has Kubernetes {context.bundle.versions['kubernetes']} and {context.controller.name}"
    )


def look_at_links(context: Context, _machine: Machine) -> Finding:
    """Check that no file of the bundle is a link to outside its folder."""
    if not context.has_bundle:
        return not_relevant("the bundle is not built yet")
    try:
        bundle = context.bundle
    except MissingError:
        return not_relevant("the bundle cannot be used; see `bundle`")
    try:
        require_inside(bundle)
    except MissingError as error:
        return broken(error.message, error.hint)
    return ok(f"{bundle.folder} has all files of the bundle")
