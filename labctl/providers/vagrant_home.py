"""The user's Vagrant folder: boxes, and the index of the machines of every project."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from labctl.host.files import SHARED_FILE, write
from labctl.host.paths import home, real

VARIABLE = "VAGRANT_HOME"
INDEX = "data/machine-index/index"


def folder() -> Path:
    """Return the folder, which may not exist yet."""
    named = os.environ.get(VARIABLE)
    return Path(os.path.expanduser(named)).absolute() if named else home() / ".vagrant.d"  # noqa: PTH111 - as Vagrant does


def named_in(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment that names the folder: Vagrant reads a relative, or empty, VAGRANT_HOME differently."""
    return environment if VARIABLE in environment else {**environment, VARIABLE: str(folder())}


def forget(project: Path) -> None:
    """Remove the machines of a project's folder from the index, as `vagrant destroy` does."""
    index = folder() / INDEX
    if not index.is_file():
        return
    with index.with_name(f"{index.name}.lock").open("a") as lock:  # Vagrant's own lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            document = json.loads(index.read_bytes())
            machines = {name: each for name, each in document["machines"].items() if not _is_in(each, project)}
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # truncated, or of another Vagrant: Vagrant itself reports that, or creates a new index
        if len(machines) != len(document["machines"]):
            write(index, json.dumps({**document, "machines": machines}).encode(), mode=SHARED_FILE)


def _is_in(machine: dict[str, object], project: Path) -> bool:
    return machine.get("vagrantfile_path") in {str(project), str(real(project))}
