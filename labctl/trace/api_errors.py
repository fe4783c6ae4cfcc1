"""Explain why a hop could not be checked: an error of the Kubernetes API."""

from __future__ import annotations

from labctl.model.errors import LabError
from labctl.model.lab import Lab
from labctl.trace.causes import CAUSES
from labctl.trace.problem import UNKNOWN, ProblemError, labctl

EXPIRED = "certificate has expired"
"""The text in Python's TLS error for an expired certificate."""
RENEW = ("sudo", "kubeadm", "certs", "renew", "all", "--config", "/etc/labctl/kubeadm.yaml")


def api_problem(lab: Lab, error: LabError) -> ProblemError:
    """Return an error of the API as a problem."""
    cause = error.id if error.id in CAUSES else "lab-not-asked"
    if cause == "api-not-trusted" and EXPIRED in error.message:
        commands = (
            labctl(lab.name, "ssh", lab.control_plane.name, "--", *RENEW),
            labctl(lab.name, "halt"),
            labctl(lab.name, "resume"),
        )
        fix = "If this machine's clock is right, renew the certificates of the control plane and restart the lab."
        return ProblemError(cause, error.message, fix=fix, commands=commands, state=UNKNOWN)
    fix = error.hint or "Run `labctl status` to see what is running."
    return ProblemError(cause, error.message, fix=fix, commands=(), state=UNKNOWN)
