"""Whose a hostname is: this lab's, another lab's of this machine, or nobody's."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.config import saved_lab
from labctl.host import lab_folder, paths
from labctl.host.http_probe import Address
from labctl.model.errors import LabError, MissingError
from labctl.trace.problem import ProblemError, labctl
from labctl.trace.trail import Trail


def is_served(trail: Trail) -> bool:
    """Whether the lab has the hostname; where nobody can say now, it may."""
    if trail.is_app:
        return True
    try:
        rules = trail.rules()
    except LabError:
        return True
    return rules.is_named


def unserved(trail: Trail, addresses: Sequence[Address]) -> ProblemError:
    """Return that the hostname is none of the lab's, and whose it is. No fix touches what it stands for."""
    lab, hostname = trail.lab, trail.hostname
    other = _other_lab(trail)
    known = ", ".join(app.hostname for app in lab.apps) or "none"
    if other:
        text = f"{hostname} is a hostname of the lab {other}, and not of the lab {lab.name}"
        fix = f"Ask that lab: `{labctl(other, 'trace', hostname)}`."
    elif addresses:
        text = f"no lab serves {hostname}, which stands for {addresses[0]}: the apps of {lab.name} have {known}"
        fix = "That is no name of the lab: ask for one of the lab's hostnames."
    else:
        text = f"no lab serves {hostname}: no app or Ingress of {lab.name} has it; its apps have {known}"
        fix = f"To have the lab serve it: `labctl app add NAME --host {hostname}`."
    return ProblemError("hostname-not-served", text, {"lab": other}, fix=fix, commands=())


def _other_lab(trail: Trail) -> str | None:
    """Return the lab of this user, or the one with a block in the hosts file, that has the hostname."""
    for file in sorted(paths.state_home().glob(f"*/{lab_folder.RECORD}")):
        try:
            saved = saved_lab.read(file.parent)
        except MissingError:
            continue  # it is damaged, and `labctl list` tells of it
        if saved and saved.lab.name != trail.lab.name and any(app.hostname == trail.hostname for app in saved.lab.apps):
            return saved.lab.name
    blocks = (line.block for line in trail.client.hosts_lines(trail.hostname))
    return next((block for block in blocks if block not in {None, trail.lab.name}), None)
