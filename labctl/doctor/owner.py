"""Ownership of the lab: a name is unique among the labs of a machine, whichever user created them."""

from __future__ import annotations

import shlex
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.host.machine import Machine
from labctl.host.paths import real
from labctl.providers.protocol import STATE_LABEL

FIELDS = ("{{.ID}}", "{{.Names}}", f'{{{{.Label "{STATE_LABEL}"}}}}')
LISTING = ("docker", "ps", "--all", "--no-trunc", "--format", "\t".join(FIELDS))


def check_owner(context: Context, machine: Machine) -> Finding:
    """Check that the names of this lab's namespace and containers are not in use."""
    if context.isolated and not machine.may_isolate:
        return not_relevant("only root may look into the lab's runtime folder; see `isolation`")
    if context.isolated:
        owner = context.isolation.other_owner()
        return _owned_elsewhere(context, owner) if owner else ok(f"no other state folder has a lab {context.lab.name}")
    listed = machine.run(*LISTING)
    if listed is None or listed.code != 0:
        return not_relevant("no Docker Engine answers; see `engine`")
    names = {node.name for node in context.lab.nodes}
    known = {path.read_text() for path in context.folder.glob(".vagrant/machines/*/docker/id")}
    rows = (line.split("\t") for line in listed.out.splitlines())
    others = [
        (name, state)
        for identity, name, state in rows
        if name in names and identity not in known and state != str(real(context.folder))
    ]
    if not others:
        return ok("no other container has the name of a node")
    name, state = others[0]
    if state:
        return _owned_elsewhere(context, Path(state))
    return broken(
        f"container {name} in this Docker Engine is not this lab's, and has the name of a node",
        f"Give this lab another --name; or, if the container is not needed: `docker rm --force {name}`.",
    )


def _owned_elsewhere(context: Context, owner: Path) -> Finding:
    command = f"XDG_STATE_HOME={shlex.quote(str(owner.parent.parent))} labctl --name {context.lab.name} …"
    return broken(
        f"the lab {context.lab.name} on this machine belongs to {owner}, not to {context.folder}",
        f"Reach it with `{command}` (as its user), or give this lab another --name.",
    )
