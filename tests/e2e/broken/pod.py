"""Labs in which the rule leads to no pod."""

from __future__ import annotations

from . import BrokenLab
from .breaking import kubectl, patch, replace, replace_command, restore_command, set_rule

BACKEND = "http/paths/0/backend/service"

ROWS = (
    BrokenLab("a wrong Service name", set_rule(f"{BACKEND}/name", "other"), "pod", "backend-service-missing"),
    BrokenLab("a wrong port", set_rule(f"{BACKEND}/port", {"name": "other"}), "pod", "backend-port-missing"),
    BrokenLab(
        "a selector without pods",
        patch("service", "my-app", merge={"spec": {"selector": {"app.kubernetes.io/name": "other"}}}),
        "pod",
        "selector-matches-nothing",
    ),
    BrokenLab(
        "a selector with one label too many",
        patch("service", "my-app", merge={"spec": {"selector": {"tier": "web"}}}),
        "pod",
        "selector-matches-nothing",
    ),
    BrokenLab("no Service of the app", kubectl("delete", "service", "my-app"), "pod", "backend-service-missing"),
    BrokenLab(
        "no Deployment of the app",
        kubectl("delete", "deployment", "my-app"),
        "pod",
        "selector-matches-nothing",
        up_id="app-not-ready",
    ),
    BrokenLab(
        "no CoreDNS",
        kubectl("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=0"),
        "pod",
        "cluster-dns-down",
        up="fine",
        state="warning",
        undo=kubectl("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=2"),
    ),
    BrokenLab("no replicas", kubectl("scale", "deployment", "my-app", "--replicas=0"), "pod", "no-pods-wanted"),
    BrokenLab(
        "a target port that no pod has",
        replace("/spec/ports/0/targetPort", "web", "service", "my-app"),
        "pod",
        "target-port-missing",
    ),
    BrokenLab(
        "an image that does not exist, while older pods are ready",
        kubectl("set", "image", "deployment/my-app", "my-app=nowhere.invalid/none:1"),
        "pod",
        "pods-not-all-ready",
        state="warning",
        up_id="image-not-pullable",
    ),
    BrokenLab(
        "a crashing app",
        lambda lab: replace_command(lab, "nginx", "-t", "-c", "/nowhere", becomes_ready=False),
        "pod",
        "no-pod-ready",
        up="reports",
        undo=restore_command,
        up_id="container-exits",
    ),
)
