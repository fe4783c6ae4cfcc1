"""The record of a lab in its folder, which later commands use instead of its labctl.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from labctl.bundle import load
from labctl.config import AUTO, CONTAINERS, from_values
from labctl.config.check import check
from labctl.host import caller, lab_folder, paths
from labctl.host.files import write_changed
from labctl.host.paths import content
from labctl.model.errors import MissingError, UsageError
from labctl.model.lab import MAX_WORKERS, AddressPool, App, Lab
from labctl.model.pools import default_pool

SCHEMA = 1
"""The version of the record's format. It changes only if an older labctl would misread a record: readers ignore unknown
keys and use defaults for missing ones."""
DAMAGED = "record-damaged"
FIXED = ("provider", "network", "cpus", "memory", "kubernetes", "hosts_file")
"""Keys that cannot change while a lab exists; `up` changes everything else."""

_READ: Mapping[str, Callable[[Any], Any]] = {
    "provider": str,
    "network": IPv4Network,
    "workers": lambda number: range(MAX_WORKERS + 1).index(number),
    "cpus": int,
    "memory": int,
    "pool": lambda text: AddressPool(*map(IPv4Address, text.split("-"))),
    "kubernetes": str,
    "ingress": str,
    "apps": lambda apps: tuple(map(_app, apps)),
    "hosts_file": Path,
    "slowness": int,
}
"""How to read each value. Today's rules for labctl.yaml do not apply: a lab keeps what an earlier labctl allowed."""


@dataclass(frozen=True, slots=True)
class SavedLab:
    """A lab as it was last brought up."""

    lab: Lab
    isolated: bool
    bundle: Path | None = None
    """The folder of the bundle that it boots from, once one is chosen. A newer labctl does not change it."""


def read(folder: Path) -> SavedLab | None:
    """Return the record in a lab's folder, or None if there is none.

    Raises MissingError `record-damaged`, `record-newer`, `state-not-usable`.
    """
    path = folder / lab_folder.RECORD
    try:
        written = content(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MissingError(
            f"{path} cannot be read: {error.strerror}",
            id="state-not-usable",
            hint=caller.ownership_hint(path) or f"Make {folder} yours to read and write, or remove it.",
        ) from error
    try:
        return _parse(json.loads(written), folder)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise MissingError(
            f"{path} does not describe a lab: {error}",
            id=DAMAGED,
            hint=f"Run `labctl --name {folder.name} destroy`, which does not need the file.",
        ) from error


def has_own_engine(folder: Path) -> bool:
    """Return whether the lab in this folder is isolated, that is, whether the folder has an Engine's data."""
    return (folder / lab_folder.ENGINE).exists()


def folder_of(lab_name: str) -> Path:
    """Return the lab's folder. Raises UsageError `sudo-not-needed` if root would leave files in another user's home.

    A lab that root created there with an earlier version is accepted, so that it can be shown and destroyed.
    """
    folder = paths.state(lab_name)
    others = [path for path in (folder, paths.cache(), caller.home()) if caller.caller_owns(path)]
    if others and not _is_roots(folder / lab_folder.RECORD):
        raise UsageError(
            f"run through sudo, labctl would leave files of root in {others[0]}, which belongs to another user",
            id="sudo-not-needed",
            hint="Run labctl without sudo: it calls sudo itself where root is needed. For an isolated lab, run "
            '`sudo -H "$(command -v labctl)" up --isolated`, which keeps everything in root\'s own home.',
        )
    return folder


def _is_roots(path: Path) -> bool:
    return path.exists() and path.stat().st_uid == 0


def write(folder: Path, record: SavedLab) -> bool:
    """Write the record into the lab's folder; return whether it differs from what was there."""
    chosen = str(record.bundle) if record.bundle else None
    lab = {**values(record.lab), "slowness": record.lab.slowness}
    described = {"schema": SCHEMA, "lab": lab, "isolated": record.isolated, "bundle": chosen}
    return write_changed(folder, {lab_folder.RECORD: json.dumps(described, indent=2) + "\n"})


def refuse_differences(saved: SavedLab, requested: SavedLab) -> None:
    """Raise UsageError `lab-differs` if `up` cannot change the saved lab into the requested one.

    Naming the value that was chosen for `auto` is no difference. A requested provider of `auto` matches any provider.
    """
    before, after = (
        _resolved_values(saved.lab, saved.bundle),
        _resolved_values(requested.lab, requested.bundle or saved.bundle),
    )
    if requested.lab.provider == AUTO:
        after["provider"] = before["provider"]
    differences = [
        f"{key}: currently {before[key]}, requested {after[key]}"
        for key in FIXED
        if before[key] != after[key] and None not in {before[key], after[key]}
    ]
    if requested.lab.workers < saved.lab.workers:
        differences.append(f"workers: currently {saved.lab.workers}, requested {requested.lab.workers}")
    if saved.isolated != requested.isolated:
        differences.append(
            "isolation: currently " + ("isolated" if saved.isolated else "on this machine's own network")
        )
    if differences:
        raise UsageError(
            f"the lab {saved.lab.name} is already up with another configuration\n  " + "\n  ".join(differences),
            id="lab-differs",
            hint=f"Run `labctl --name {saved.lab.name} destroy` first, or choose another --name for this lab.",
        )


def values(lab: Lab) -> Mapping[str, Any]:
    """Return the lab as the keys and values of a labctl.yaml."""
    keys = {
        **asdict(lab),
        "network": str(lab.network),
        "pool": str(lab.pool),
        "apps": [asdict(app) for app in lab.apps],
        "hosts_file": str(lab.hosts_file),
        "bundle": lab.bundle or None,
        "mirrors": dict(lab.mirrors),
    }
    del keys["slowness"]  # measured, never configured
    return keys


def _resolved_values(lab: Lab, bundle: Path | None) -> dict[str, Any]:
    """Return the lab's values with `auto` resolved: to docker, as in earlier labs, and to the bundle's Kubernetes."""
    provider = CONTAINERS if lab.provider == AUTO else lab.provider
    kubernetes = _bundle_kubernetes(bundle) if lab.kubernetes == AUTO else lab.kubernetes
    return {**values(lab), "provider": provider, "kubernetes": kubernetes if bundle else None}


def _bundle_kubernetes(bundle: Path | None) -> str | None:
    """Return the version of Kubernetes in a bundle; None without a bundle, or if it was removed."""
    try:
        return load(bundle).versions["kubernetes"] if bundle else None
    except MissingError:
        return None


def _parse(written: Mapping[str, Any], folder: Path) -> SavedLab:
    """Return the record in this JSON document. Raises MissingError `record-newer`."""
    schema = int(written.get("schema", 1))  # labctl 0.1.0 wrote none
    if schema > SCHEMA:
        raise MissingError(
            f"the lab {folder.name} was made by a newer labctl: {folder / lab_folder.RECORD} has schema {schema}, "
            f"and this labctl reads {SCHEMA}",
            id="record-newer",
            hint="Use the labctl that made the lab, or a newer one.",
        )
    bundle = written.get("bundle")
    isolated = written.get("isolated", has_own_engine(folder))
    return SavedLab(_lab(written.get("lab", {}), folder.name), bool(isolated), Path(bundle) if bundle else None)


def _lab(written: Mapping[str, Any], name: str) -> Lab:
    """Return the lab of a record. A missing key gets its default; an unknown key is ignored."""
    name = written.get("name", name)
    lab, _ = check({**written, "name": name})
    if lab.name != name:
        raise ValueError(f"name: {name}")
    known = {key: read(written[key]) for key, read in _READ.items() if key in written}
    return replace(lab, **{"pool": default_pool(known.get("network", lab.network)), **known})


def _app(written: Mapping[str, Any]) -> App:
    plain = from_values({"apps": [{"name": "app"}]}).apps[0]
    known = {field.name: written[field.name] for field in fields(App) if field.name in written}
    return replace(plain, **{"hostname": f"{written['name']}.local", **known})
