"""The objects that labctl adds to a cluster, as YAML text: what is applied is what `render` shows."""

from __future__ import annotations

from labctl.lab import App, Lab
from labctl.render import documents, text, yaml_stream


def metallb(upstream: str) -> str:
    """Upstream's objects, with a controller that is asked for its readiness from its first second on.

    Upstream waits for ten. Its webhook is reached only through a ready pod, and every pool waits for its webhook.
    """
    objects = documents(upstream)
    for found in objects:
        if found["kind"] == "Deployment" and found["metadata"]["name"] == "controller":
            probe = found["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
            probe |= {"initialDelaySeconds": 0, "periodSeconds": 1}
    return yaml_stream(objects)


def memberlist(key: str) -> str:
    """The secret that MetalLB's speakers find each other by."""
    return text("metallb/memberlist.yaml.j2", memberlist=key)


def pool(lab: Lab) -> str:
    """The lab's address pool, and its advertisement at Layer 2."""
    return text("metallb/pool.yaml.j2", lab=lab)


def app(application: App, image: str, ingress_class: str) -> str:
    """An app's Deployment, Service and Ingress."""
    return text("app/app.yaml.j2", app=application, image=image, ingress_class=ingress_class)
