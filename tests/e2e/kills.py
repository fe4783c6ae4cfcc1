"""Kills of labctl at its failpoints."""

from __future__ import annotations

import signal
from dataclasses import replace

from .reallab import UP_SECONDS, RealLab

UP_POINTS = (
    "preflight.end",
    "bundle.end",
    "isolation.begin",
    "run.ip:5",
    "run.iptables:2",
    "isolation.end",
    "render.begin",
    "write:9",
    "write:7",
    "boot.begin",
    "run.docker:2",
    "run.vagrant",
    "boot.progress",
    "boot.end",
    "cluster.progress",
    "metallb.begin",
    "apply:12",
    "metallb.end",
    "ingress.end",
    "apps.end",
    "hosts.rename",
    "verify.begin",
)
"""Failpoints, in the order in which a first `up` reaches them."""


def run_until_killed(lab: RealLab, point: str, *words: str) -> None:
    """Run labctl, and require that it is killed at the point."""
    faulty = replace(lab, environment={**lab.environment, "LABCTL_FAULT": point})
    faulty.labctl(*words, code=-signal.SIGKILL, seconds=UP_SECONDS)
