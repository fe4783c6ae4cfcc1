"""The objects that labctl adds to a cluster, as YAML text, exactly as `render` shows and `up` applies them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from labctl.model.lab import App, Lab
from labctl.render.templates import text
from labctl.render.yaml_stream import documents, yaml_stream

SLOW_MEMBERLIST = "--ml-wan-config=true"
"""The argument of MetalLB's speaker for WAN settings of memberlist."""


def control_plane(lab: Lab) -> str:
    """Return the control plane's labels and taints, which keep apps and addresses off it if there are workers."""
    return text("node/control-plane.yaml.j2", node=lab.control_plane, dedicated=lab.has_dedicated_control_plane)


def metallb(upstream: str, webhook_certificate: str, webhook_key: str, *, is_slow: bool = False) -> str:
    """Return upstream's objects without the waits that would delay every address pool and every starting speaker.

    MetalLB's webhook is reachable only through a ready controller. Upstream probes it only after ten seconds, and a
    controller that has to create its webhook's certificate serves nothing until the kubelet has mounted it, which may
    take a minute. Speakers announce addresses at once, but are probed as late, which delays a rollout by as much for
    each node. Upstream does not set the number of controllers, so an external change would stay; `labctl up` resets it.
    On slow nodes, memberlist's WAN settings give speakers more time: a node is dead after about 40 s.
    """
    objects = documents(upstream)
    for manifest in objects:
        match manifest["kind"], manifest["metadata"]["name"]:
            case "Deployment", "controller":
                _readiness_probe(manifest).update(initialDelaySeconds=0, periodSeconds=1)
                manifest["spec"]["replicas"] = 1
            case "DaemonSet", "speaker":
                # Ready at once, but unready no sooner than with upstream's three failures at ten-second intervals.
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

    With memberlist's LAN settings, which MetalLB does not make configurable, speakers detect a dead node after five to
    six seconds; if the API server died with it, nothing else reports it. A single serving node needs no detector: no
    other node can take over.
    """
    detector = failure_detector if len(lab.serving_nodes) > 1 else None
    return text("metallb/memberlist.yaml.j2", memberlist=key, failure_detector=detector)


def pool(lab: Lab) -> str:
    """Return the lab's address pool and its L2Advertisement."""
    return text("metallb/pool.yaml.j2", lab=lab)


def app(application: App, image: str, ingress_class: str) -> str:
    """Return an app's Deployment, Service and Ingress."""
    return text("app/app.yaml.j2", app=application, image=image, ingress_class=ingress_class)
