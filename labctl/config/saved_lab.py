"""What a lab was made from: kept in its folder, so that later commands know it without its labctl.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from labctl.bundle import load
from labctl.config import BOOTED, from_values
from labctl.config.check import check
from labctl.host import caller, lab_folder, paths
from labctl.host.files import write_changed
from labctl.host.paths import content
from labctl.model.errors import MissingError, UsageError
from labctl.model.lab import MAX_WORKERS, AddressPool, App, Lab
from labctl.model.pools import default_pool

DAMAGED = "record-damaged"
FIXED = ("provider", "network", "cpus", "memory", "kubernetes", "hosts_file")
"""What a lab cannot change without being made again; everything else, `up` brings about."""

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
}
"""How values are read that today's labctl.yaml may not have: a lab that an earlier labctl made is what it is."""


@dataclass(frozen=True, slots=True)
class SavedLab:
    """A lab as it was last brought up."""

    lab: Lab
    isolated: bool
    bundle: Path | None = None
    """The folder of the bundle it boots from, once one was chosen or made: a newer labctl does not change it."""


def read(folder: Path) -> SavedLab | None:
    """Return the record in a lab's folder, or None where no lab was made there.

    Raises MissingError `record-damaged`, `state-not-usable`.
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
            hint=caller.another_owner(path) or f"Make {folder} yours to read and write, or remove it.",
        ) from error
    try:
        described = json.loads(written)
        chosen = described.get("bundle")
        isolated = described.get("isolated", has_own_engine(folder))
        return SavedLab(_lab(described.get("lab", {}), folder.name), bool(isolated), Path(chosen) if chosen else None)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise MissingError(
            f"{path} does not describe a lab: {error}",
            id=DAMAGED,
            hint=f"`labctl --name {folder.name} destroy` removes the lab without it.",
        ) from error


def has_own_engine(folder: Path) -> bool:
    """Return whether the lab in this folder is isolated: only an Engine of labctl's has its data there."""
    return (folder / lab_folder.ENGINE).exists()


def folder_of(lab_name: str) -> Path:
    """Return the lab's folder. Raises UsageError `sudo-not-needed` where root would leave files in the home of another.

    A lab that root has made there, as earlier versions let it, can be looked at and destroyed.
    """
    folder = paths.state(lab_name)
    others = [path for path in (folder, paths.cache(), Path.home()) if caller.owns(path)]
    if others and not _is_roots(folder / lab_folder.RECORD):
        raise UsageError(
            f"started through sudo, labctl would leave root's files in {others[0]}, which is another user's",
            id="sudo-not-needed",
            hint="Run it without sudo: what needs root, labctl does through sudo itself. For an isolated lab, "
            '`sudo -H "$(command -v labctl)" up --isolated` keeps everything in root\'s own home.',
        )
    return folder


def _is_roots(path: Path) -> bool:
    return path.exists() and path.stat().st_uid == 0


def write(folder: Path, record: SavedLab) -> bool:
    """The folder holds this record; True if it held another, or none."""
    chosen = str(record.bundle) if record.bundle else None
    described = {"lab": values(record.lab), "isolated": record.isolated, "bundle": chosen}
    return write_changed(folder, {lab_folder.RECORD: json.dumps(described, indent=2) + "\n"})


def refuse_differences(made: SavedLab, asked: SavedLab) -> None:
    """Return if `up` can turn the lab that was made into the one asked for. Raises UsageError with what differs.

    What labctl chose for `auto` is no other than the same, named.
    """
    before, after = _chosen(made.lab, made.bundle), _chosen(asked.lab, asked.bundle or made.bundle)
    differences = [
        f"{key}: currently {before[key]}, requested {after[key]}"
        for key in FIXED
        if before[key] != after[key] and None not in {before[key], after[key]}
    ]
    if asked.lab.workers < made.lab.workers:
        differences.append(f"workers: currently {made.lab.workers}, requested {asked.lab.workers}")
    if made.isolated != asked.isolated:
        differences.append("isolation: currently " + ("isolated" if made.isolated else "on this machine's own network"))
    if differences:
        raise UsageError(
            f"the lab {made.lab.name} is already up with another configuration\n  " + "\n  ".join(differences),
            id="lab-differs",
            hint=f"`labctl --name {made.lab.name} destroy` first, or give this lab another --name.",
        )


def values(lab: Lab) -> Mapping[str, Any]:
    """The lab in the words of labctl.yaml."""
    return {
        **asdict(lab),
        "network": str(lab.network),
        "pool": str(lab.pool),
        "apps": [asdict(app) for app in lab.apps],
        "hosts_file": str(lab.hosts_file),
    }


def _chosen(lab: Lab, bundle: Path | None) -> dict[str, Any]:
    """Return the lab's values, with what is chosen for `auto`: the provider that boots, and the bundle's Kubernetes."""
    provider = BOOTED[1] if lab.provider == "auto" else lab.provider
    kubernetes = _carried(bundle) if lab.kubernetes == "auto" else lab.kubernetes
    return {**values(lab), "provider": provider, "kubernetes": kubernetes if bundle else None}


def _carried(bundle: Path | None) -> str | None:
    """Return the version of Kubernetes in a bundle; None where there is none, or none any more."""
    try:
        return load(bundle).versions["kubernetes"] if bundle else None
    except MissingError:
        return None


def _lab(written: Mapping[str, Any], name: str) -> Lab:
    """Return the lab of a record: what is missing is at its default, and keys that are not known are passed over."""
    name = written.get("name", name)
    lab, _ = check({**written, "name": name})
    if lab.name != name:
        raise ValueError(f"name: {name}")
    found = {key: read(written[key]) for key, read in _READ.items() if key in written}
    return replace(lab, **{"pool": default_pool(found.get("network", lab.network)), **found})


def _app(written: Mapping[str, Any]) -> App:
    plain = from_values({"apps": [{"name": "app"}]}).apps[0]
    known = {field.name: written[field.name] for field in fields(App) if field.name in written}
    return replace(plain, **{"hostname": f"{written['name']}.local", **known})
