"""Leftovers of labs that no longer exist, and of interrupted bundle builds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from labctl.bundle.build.build import recipe_id
from labctl.bundle.download import recipe as recipes
from labctl.bundle.format import PARTIAL
from labctl.bundle.unfinished import SCRATCH
from labctl.context import Context
from labctl.doctor.finding import Finding, ok, warning
from labctl.host import lab_folder, paths
from labctl.host.interfaces import interfaces
from labctl.host.locks import try_lock
from labctl.host.machine import Machine
from labctl.host.process import check
from labctl.host.wait import Pending
from labctl.isolation.forwarding import FORWARDING_BEFORE
from labctl.isolation.isolation import NAMESPACES, OWNER, RUNTIME, SETTINGS, Isolation
from labctl.model.errors import MissingError

LOOPBACK = IPv4Network("127.0.0.0/8")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LINK = re.compile(r"labctl[0-9a-f]{8}")
TAG = re.compile(r"--comment \"?labctl:([^\"\s]+)")
REPAIR = "`labctl doctor --fix` removes them."


def check_leftovers(_context: Context, machine: Machine) -> Finding:
    """Check that nothing is left of labs that no longer exist."""
    leftovers = [
        *(f"{what} of lab {name}" for name, what in _find_leftovers(machine)),
        *(f"link {link}" for link in _links(machine)),
    ]
    return warning(", ".join(leftovers), REPAIR) if leftovers else ok("no leftovers of labs")


def remove_leftovers(context: Context, machine: Machine) -> None:
    """Remove the leftovers of labs that no longer exist, except their logs and labs that another labctl has locked.

    Keep a state folder without an Engine's data: `labctl render` wrote it, and its keys are the user's.
    """
    for name in sorted({name for name, _ in _find_leftovers(machine)}):
        folder = paths.state(name)
        lab = replace(context, lab=replace(context.lab, name=name), folder=folder, isolated=machine.may_isolate)
        with _unless_locked(folder / lab_folder.LOCK) as is_free:
            had_engine = (folder / lab_folder.ENGINE).exists()
            if is_free:
                _remove_isolation(lab)
            if is_free and had_engine:
                lab_folder.empty(folder, lab_folder.KEPT)
    for link in _links(machine):
        check(["ip", "link", "delete", link])


def check_unfinished_bundles(context: Context, machine: Machine) -> Finding:
    """Check that no interrupted build left files that `labctl bundle build` does not resume."""
    folders = [str(path) for path in _unfinished_bundles(context.cache, machine)]
    if folders:
        return warning(f"an interrupted build left {', '.join(folders)}", REPAIR)
    return ok("no leftovers of interrupted builds")


def remove_unfinished_bundles(context: Context, machine: Machine) -> None:
    """Remove what interrupted builds left, unless a build is running there."""
    for path in _unfinished_bundles(context.cache, machine):
        bundle = path.relative_to(context.cache / "bundles").parts[0].removesuffix(PARTIAL)
        with _unless_locked(context.cache / "bundles" / f"{bundle}.lock") as is_free:
            if is_free:
                shutil.rmtree(path)


def _find_leftovers(machine: Machine) -> list[tuple[str, str]]:
    """Return the leftovers of labs without a lab.json, each as the lab's name and a description."""
    recorded = _recorded_labs(machine)
    traces = [*_state_leftovers(machine), *(_isolation_leftovers(machine) if machine.may_isolate else ())]
    return [(lab, what) for lab, what in traces if NAME.fullmatch(lab) and lab not in recorded]


def _recorded_labs(machine: Machine) -> set[str]:
    """Return the labs with a lab.json: this user's, and isolated ones, whose runtime folder names the state folder."""
    home = paths.state_home()
    folders = [home / name for name in machine.names(home)]
    folders += [Path(owner) for name in machine.names(RUNTIME) if (owner := machine.read(RUNTIME / name / OWNER))]
    return {folder.name for folder in folders if machine.read(folder / lab_folder.RECORD) is not None}


def _isolation_leftovers(machine: Machine) -> Iterator[tuple[str, str]]:
    for folder, what in ((NAMESPACES, "namespace"), (SETTINGS, "settings")):
        names = (name for name in machine.names(folder) if name.startswith("labctl-"))
        yield from ((name.removeprefix("labctl-"), f"{what} {folder / name}") for name in names)
    for name in machine.names(RUNTIME):
        if name != FORWARDING_BEFORE.name:
            yield name, f"folder {RUNTIME / name}"
    for table in ("nat", "filter"):
        rules = machine.run("iptables", "--wait", "-t", table, "-S")
        for tag in dict.fromkeys(TAG.findall(rules.out) if rules is not None else ()):
            yield tag, f"{table} rules labctl:{tag}"


def _state_leftovers(machine: Machine) -> Iterator[tuple[str, str]]:
    home = paths.state_home()
    for lab in machine.names(home):
        if lab_folder.ENGINE in machine.names(home / lab):
            yield lab, f"folder {home / lab}"


def _links(machine: Machine) -> list[str]:
    """Return uplinks without a lab: those whose name is not the checksum of a known lab's name."""
    links = [each.name for each in interfaces(machine)] if machine.may_isolate else []
    labs = _recorded_labs(machine) | {lab for lab, _ in _find_leftovers(machine)}
    known = {Isolation(lab, LOOPBACK, paths.state(lab)).link for lab in labs}
    return [link for link in links if LINK.fullmatch(link) and link not in known]


def _unfinished_bundles(cache: Path, machine: Machine) -> list[Path]:
    """Return the folders that interrupted builds left, except those that the next build resumes."""
    bundles = cache / "bundles"
    own = [f"{identity}{PARTIAL}" for identity in _own_bundles()]
    others = [bundles / name for name in machine.names(bundles) if name.endswith(PARTIAL) and name not in own]
    scratch = [bundles / each / name for each in own for name in machine.names(bundles / each)]
    return others + [path for path in scratch if path.name.startswith(SCRATCH)]


def _own_bundles() -> tuple[str, ...]:
    """Return the ids of the bundles that this labctl builds and downloads by default."""
    try:
        return recipe_id(), recipes.recipe_id(recipes.load())
    except MissingError:  # no bundle can be made for this machine
        return ()


def _remove_isolation(lab: Context) -> None:
    if lab.isolated and not lab.isolation.other_owner():
        lab.isolation.remove()


@contextmanager
def _unless_locked(path: Path) -> Iterator[bool]:
    """Try to hold a lock; yield whether it was free. It is free if its folder does not exist."""
    if not path.parent.exists():
        yield True
        return
    file = try_lock(path, "a+b")
    if isinstance(file, Pending):
        yield False
        return
    with file:
        yield True
