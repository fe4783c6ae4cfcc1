"""Find which lab on this machine serves a hostname, if any."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.config import saved_lab
from labctl.host import lab_folder, paths
from labctl.host.http_probe import Address
from labctl.model.errors import LabError, MissingError
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.trail import Trail


def is_served(trail: Trail) -> bool:
    """Return whether the lab serves the hostname; True if that cannot be determined now."""
    if trail.is_app:
        return True
    try:
        rules = trail.rules()
    except LabError:
        return True
    return rules.is_named


def unserved_hostname(trail: Trail, addresses: Sequence[Address]) -> ProblemError:
    """Return the problem that the lab does not serve the hostname, with the lab that does, if any.

    No fix changes what the name resolves to.
    """
    lab, hostname = trail.lab, trail.hostname
    other = _other_lab(trail)
    known = ", ".join(app.hostname for app in lab.apps) or "none"
    if other:
        text = f"{hostname} is a hostname of the lab {other}, not of the lab {lab.name}"
        fix = f"Trace it in that lab: `{labctl(other, 'trace', hostname)}`."
    elif addresses:
        text = f"no lab serves {hostname}, which resolves to {addresses[0]}; the hostnames of {lab.name} are {known}"
        fix = "Trace one of the lab's hostnames."
    else:
        text = (
            f"no lab serves {hostname}: no app or Ingress of {lab.name} has it; the hostnames of its apps are {known}"
        )
        fix = f"To serve it from this lab, run `labctl app add NAME --host {hostname}`."
    return ProblemError("hostname-not-served", text, {"lab": other}, fix=fix, commands=())


def _other_lab(trail: Trail) -> str | None:
    """Return the lab that has the hostname, among this user's labs and the blocks of the hosts file."""
    for file in sorted(paths.state_home().glob(f"*/{lab_folder.RECORD}")):
        try:
            saved = saved_lab.read(file.parent)
        except MissingError:
            continue  # `labctl list` reports a damaged one
        if saved and saved.lab.name != trail.lab.name and any(app.hostname == trail.hostname for app in saved.lab.apps):
            return saved.lab.name
    blocks = (line.block for line in trail.client.hosts_lines(trail.hostname))
    return next((block for block in blocks if block not in {None, trail.lab.name}), None)
