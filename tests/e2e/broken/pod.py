"""Labs in which the rule leads to no pod."""

from __future__ import annotations

from . import BrokenLab
from .breaking import patch, run_as_ever, run_instead, set_rule

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
        "a crashing app",
        lambda lab: run_instead(lab, "nginx", "-t", "-c", "/nowhere", comes_up=False),
        "pod",
        "no-pod-ready",
        up="names",
        undo=run_as_ever,
        up_id="container-exits",
    ),
)
