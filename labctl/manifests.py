"""The objects that labctl adds to a cluster, as YAML text: what is applied is what `render` shows."""

from __future__ import annotations

from labctl.lab import App, Lab
from labctl.render import text


def memberlist(key: str) -> str:
    """The secret that MetalLB's speakers find each other by."""
    return text("metallb/memberlist.yaml.j2", memberlist=key)


def pool(lab: Lab) -> str:
    """The lab's address pool, and its advertisement at Layer 2."""
    return text("metallb/pool.yaml.j2", lab=lab)


def app(application: App, image: str, ingress_class: str) -> str:
    """An app's Deployment, Service and Ingress."""
    return text("app/app.yaml.j2", app=application, image=image, ingress_class=ingress_class)
