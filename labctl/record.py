"""What a lab was made from: kept in its folder, so that later commands know it without its labctl.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labctl.config import from_values
from labctl.errors import MissingError, UsageError
from labctl.lab import Lab
from labctl.render import write as write_files

FILE_NAME = "lab.json"
FIXED = ("network", "cpus", "memory", "kubernetes", "hosts_file")
"""What a lab cannot change without being made again; everything else, `up` brings about."""


@dataclass(frozen=True, slots=True)
class Record:
    """A lab as it was last brought up."""

    lab: Lab
    isolated: bool
    bundle: Path | None = None
    """The folder of the bundle it boots from, once one was chosen or made: a newer labctl does not change it."""


def read(folder: Path) -> Record | None:
    """Return the record in a lab's folder, or None where no lab was made there. Raises MissingError `record-damaged`."""
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        chosen = described["bundle"]
        return Record(from_values(described["lab"]), described["isolated"], Path(chosen) if chosen else None)
    except (ValueError, LookupError, TypeError, UsageError) as error:
        raise MissingError(
            f"{path} does not describe a lab: {error}",
            id="record-damaged",
            hint=f"Put the file right, or remove the lab's remains by hand, {folder} last.",
        ) from error


def write(folder: Path, record: Record) -> bool:
    """The folder holds this record; True if it held another, or none."""
    chosen = str(record.bundle) if record.bundle else None
    described = {"lab": values(record.lab), "isolated": record.isolated, "bundle": chosen}
    return write_files(folder, {FILE_NAME: json.dumps(described, indent=2) + "\n"})


def refuse_differences(made: Record, asked: Record) -> None:
    """Return if `up` can turn the lab that was made into the one asked for. Raises UsageError with what differs."""
    before, after = values(made.lab), values(asked.lab)
    differences = [f"{key}: it has {before[key]}, asked is {after[key]}" for key in FIXED if before[key] != after[key]]
    if asked.lab.workers < made.lab.workers:
        differences.append(f"workers: it has {made.lab.workers}, asked is {asked.lab.workers}")
    if made.isolated != asked.isolated:
        differences.append("isolation: it is " + ("isolated" if made.isolated else "on this machine's own network"))
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
