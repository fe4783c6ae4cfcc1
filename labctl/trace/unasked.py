"""Why a hop could not be checked: the API does not answer as it should, and what makes it do so."""

from __future__ import annotations

from labctl.model.errors import LabError
from labctl.model.lab import Lab
from labctl.trace.causes import CAUSES
from labctl.trace.problem import UNKNOWN, ProblemError, labctl

EXPIRED = "certificate has expired"
"""How Python's TLS says that a certificate is no longer valid."""
RENEW = ("sudo", "kubeadm", "certs", "renew", "all", "--config", "/etc/labctl/kubeadm.yaml")


def unasked(lab: Lab, error: LabError) -> ProblemError:
    """Return the problem that an error of the API is."""
    cause = error.id if error.id in CAUSES else "lab-not-asked"
    if cause == "api-not-trusted" and EXPIRED in error.message:
        commands = (
            labctl(lab.name, "ssh", lab.control_plane.name, "--", *RENEW),
            labctl(lab.name, "halt"),
            labctl(lab.name, "resume"),
        )
        fix = "If this machine's clock is right, renew the certificates of the control plane and restart the lab."
        return ProblemError(cause, error.message, fix=fix, commands=commands, state=UNKNOWN)
    fix = error.hint or "`labctl status` says what runs."
    return ProblemError(cause, error.message, fix=fix, commands=(), state=UNKNOWN)
