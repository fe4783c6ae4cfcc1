"""Choose a lab's provider: the one that it was created with, or the first that this machine can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.config import AUTO, CONTAINERS, from_values, saved_lab
from labctl.context import Context
from labctl.doctor import CHECKS, State, examine
from labctl.host import paths
from labctl.host.machine import Machine
from labctl.model.lab import Lab
from labctl.providers.table import DOCKER

MACHINES: Mapping[str, tuple[str, ...]] = {
    "libvirt": ("provider", "libvirt", "libvirt-plugin"),
    "virtualbox": ("provider", "virtualbox"),
}
"""The providers of virtual machines, in order of preference, with the doctor's checks that they have to pass."""


def choose_provider(lab: Lab, saved: Lab | None, folder: Path, *, isolated: bool) -> tuple[Lab, str]:
    """Return the lab with a provider in place of `auto`, and the reason for the choice.

    A lab that names its provider is returned unchanged; an existing lab keeps its provider.
    Raises UsageError `config-invalid` if the lab cannot have the provider that was chosen.
    """
    if lab.provider != AUTO:
        return lab, ""
    if saved is not None:
        name = CONTAINERS if saved.provider == AUTO else saved.provider
        reason = "the lab already has it"
    elif isolated:
        name, reason = CONTAINERS, "only containers can be isolated"
    else:
        name, reason = available_provider(lab, folder, Machine())
    chosen = replace(lab, provider=name)
    return from_values(saved_lab.values(chosen)), f"provider {name}: {reason}"


def available_provider(lab: Lab, folder: Path, machine: Machine) -> tuple[str, str]:
    """Return the first provider that this machine can use, and the reason; docker if it can use none."""
    obstacle = DOCKER.provider(lab, folder, {}).check(machine)
    if machine.platform != "linux":  # containers run in a virtual machine there, whose network is unreachable
        reason = "containers need Linux"
    elif obstacle is None:
        return CONTAINERS, "a Docker Engine answers"
    elif machine.may_isolate:
        return CONTAINERS, f"{obstacle.text}, and root can start one for the lab alone"
    else:
        reason = obstacle.text
    for name in MACHINES:
        if _is_usable(replace(lab, provider=name), folder, machine):
            return name, f"{reason}, and {name} can be used"
    return CONTAINERS, f"{reason}, and neither {' nor '.join(MACHINES)} can be used either"


def _is_usable(lab: Lab, folder: Path, machine: Machine) -> bool:
    """Return whether this machine can use the lab's provider: all of its doctor checks apply, and none fails."""
    context = Context(lab, folder, paths.cache())
    checks = [check for check in CHECKS if check.id in MACHINES[lab.provider]]
    return all(each.finding.state in {State.OK, State.WARNING} for each in examine(context, machine, checks))
