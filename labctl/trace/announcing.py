"""Why no node announces an address."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from labctl.ingress import IngressController
from labctl.lab import Lab
from labctl.trace import backend
from labctl.trace.metallb import API, NAMESPACE
from labctl.trace.problem import Evidence, ProblemError, kubectl

if TYPE_CHECKING:
    from labctl.kube import Cluster

SPEAKERS = "component=speaker"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def unannounced(
    cluster: Cluster, controller: IngressController, lab: Lab, address: IPv4Address, evidence: Evidence
) -> ProblemError:
    """Return why no node announces the address, the first thing that MetalLB needs for it first."""
    silence = f"no node announces {address}"
    if not cluster.list(API, "L2Advertisement", NAMESPACE):
        return ProblemError("advertisement-missing", f"{silence}: MetalLB has no L2Advertisement", evidence)
    if not any(map(backend.is_ready, backend.controller_pods(cluster, controller))):
        text = (
            f"{silence}: no pod of the ingress controller {controller.name} is ready, and MetalLB announces nothing "
            "for a Service without one"
        )
        return ProblemError("controller-not-ready", text, evidence)
    nodes = {node["metadata"]["name"]: node["metadata"].get("labels", {}) for node in cluster.list("v1", "Node")}
    allowed = [name for name, labels in nodes.items() if EXCLUDED not in labels]
    if not allowed:
        return ProblemError(
            "nodes-excluded",
            f"{silence}: every node has the label {EXCLUDED}",
            evidence,
            fix="Take the label from one of them.",
            commands=(kubectl(lab.name, "label", "node", next(iter(nodes), lab.control_plane.name), f"{EXCLUDED}-"),),
        )
    speakers = cluster.list("v1", "Pod", NAMESPACE, SPEAKERS)
    speaking = {pod["spec"].get("nodeName") for pod in speakers if backend.is_ready(pod)}
    if not speaking & set(allowed):
        text = f"{silence}: MetalLB's speaker is not ready on {' or '.join(allowed)}"
        return ProblemError("speaker-not-ready", text, evidence)
    return ProblemError(
        "address-not-announced",
        f"{silence}: it was asked for several times",
        evidence,
        fix="The speakers' logs say why.",
        commands=(kubectl(lab.name, "-n", NAMESPACE, "logs", "-l", SPEAKERS, "--tail=50"),),
    )
