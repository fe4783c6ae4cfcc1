"""The objects that labctl adds to a cluster, as YAML text: what is applied is what `render` shows."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from labctl.model.lab import App, Lab
from labctl.render.templates import text
from labctl.render.yaml_stream import documents, yaml_stream

SLOW_MEMBERLIST = "--ml-wan-config=true"
"""The argument of MetalLB's speaker for WAN settings of memberlist."""


def control_plane(lab: Lab) -> str:
    """Return the labels and taints that mark the control plane, and keep apps and addresses off it if there are workers."""
    return text("node/control-plane.yaml.j2", node=lab.control_plane, dedicated=lab.has_dedicated_control_plane)


def metallb(upstream: str, webhook_certificate: str, webhook_key: str, *, is_slow: bool = False) -> str:
    """Return upstream's objects without waits that would delay every address pool, and every speaker that starts.

    MetalLB's webhook is reached only through a ready controller. Upstream first probes it after ten seconds; and a
    controller that has to make its webhook's certificate serves nothing until the kubelet has brought it back to it
    as a file, which may take a minute. A speaker announces addresses at once, but is probed as late; a rollout, which
    replaces one at a time, takes as long for each node. Upstream leaves the number of controllers to the default, and
    so to whoever changes it: `labctl up` resets it. On slow nodes the speakers give each other more time, by
    memberlist's WAN settings, with which a node is dead after about 40 s.
    """
    objects = documents(upstream)
    for manifest in objects:
        match manifest["kind"], manifest["metadata"]["name"]:
            case "Deployment", "controller":
                _readiness_probe(manifest).update(initialDelaySeconds=0, periodSeconds=1)
                manifest["spec"]["replicas"] = 1
            case "DaemonSet", "speaker":
                # Ready at once, and unready no sooner than upstream's three failures, ten seconds apart.
                _readiness_probe(manifest).update(initialDelaySeconds=0, periodSeconds=1, failureThreshold=30)
                if is_slow:
                    manifest["spec"]["template"]["spec"]["containers"][0]["args"].append(SLOW_MEMBERLIST)
            case "Secret", "metallb-webhook-cert":
                pair = {"crt": b64encode(webhook_certificate.encode()), "key": b64encode(webhook_key.encode())}
                manifest["data"] = {f"{use}.{kind}": pair[kind].decode() for use in ("ca", "tls") for kind in pair}
    return yaml_stream(objects)


def _readiness_probe(workload: dict[str, Any]) -> dict[str, Any]:
    probe: dict[str, Any] = workload["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    return probe


def memberlist(lab: Lab, key: str, failure_detector: str | None) -> str:
    """Return the Secret of MetalLB's memberlist, and the failure detector if there is an image of it.

    Speakers notice a dead node after five to six seconds, by memberlist's LAN settings, which MetalLB does not let
    anybody change; where the API server died with it, nothing else tells them. Where one node serves alone, none can
    take over.
    """
    detector = failure_detector if len(lab.serving_nodes) > 1 else None
    return text("metallb/memberlist.yaml.j2", memberlist=key, failure_detector=detector)


def pool(lab: Lab) -> str:
    """Return the lab's address pool and its L2Advertisement."""
    return text("metallb/pool.yaml.j2", lab=lab)


def app(application: App, image: str, ingress_class: str) -> str:
    """Return an app's Deployment, Service and Ingress."""
    return text("app/app.yaml.j2", app=application, image=image, ingress_class=ingress_class)
